"""A spool that is full, on a disk that is full or fails, or in a folder that cannot be used: never a false 200."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.access_log import LONGEST_ANSWER_S
from tests.support.commands import run
from tests.support.eventually import eventually
from tests.support.routes import CALLS
from tests.support.spool_site import Site, away, timed_post
from tests.support.traffic import get_when_served, post_until_taken
from tests.support.vapi_sender import full_report

Open = Callable[..., Site]

ALMOST_NOTHING = 64 * 1024
"""Bytes: the spool's log has not even room for one of the large reports, and ours for some lines."""

MEBIBYTE = 1_048_576


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for 24 MiB; only where we may mount one."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(tmp_path)], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("needs the right to mount a file system")
    yield tmp_path / "spool"
    subprocess.run(["umount", str(tmp_path)], check=True)


def limit_files(site: Site, size_bytes: int) -> None:
    """From now on, writes of the replica beyond this size of a file fail."""
    _, hard = resource.prlimit(site.replica.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(site.replica.pid, resource.RLIMIT_FSIZE, (size_bytes, hard))


def large_report(call_id: str, size_bytes: int = 200_000) -> dict[str, object]:
    return full_report(call_id, artifact={"transcript": f"User: {call_id} " + "x" * size_bytes})


async def fill(site: Site, size_bytes: int) -> list[str]:
    """Post until one is refused; the calls whose webhook was answered 200."""
    kept: list[str] = []
    while (answer := await site.post(large_report(f"call-{len(kept)}", size_bytes))).status_code == 200:
        kept.append(f"call-{len(kept)}")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert answer.json()["success"] is False
    return kept


async def test_beyond_its_bound_a_webhook_is_refused_and_nothing_of_it_kept_until_there_is_room_again(
    open_site: Open,
) -> None:
    site = open_site(spool_max_bytes=500_000)
    with away(site.redis):
        kept = await fill(site, 100_000)
        assert 4 - site.late_answers <= len(kept) <= 4
        assert f"call-{len(kept)}".encode() not in site.on_disk()
    await site.readable(*kept)
    await site.spool_holds(waiting=0)
    assert (await get_when_served(site.client, f"{site.replica.url}{CALLS}call-{len(kept)}")).status_code == 404
    with away(site.redis):
        assert (await site.post(large_report("room-again", 100_000))).status_code == 200
    await site.readable("room-again")


async def test_a_replica_whose_spool_is_full_is_not_ready_while_redis_is_away(open_site: Open) -> None:
    site = open_site(spool_max_bytes=403_000)
    with away(site.redis):
        await site.until_ready()
        await fill(site, 100_000)
        await fill(site, 1_000)
        assert await site.ready() == 503


async def test_a_disk_that_fails_gives_503_never_a_false_200_and_the_service_goes_on(open_site: Open) -> None:
    site = open_site()
    with away(site.redis):
        assert (await site.post(full_report("before"))).status_code == 200
        limit_files(site, ALMOST_NOTHING)
        answer, seconds = await timed_post(site, large_report("refused"))
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert seconds < LONGEST_ANSWER_S

        async def is_known() -> bool:
            """For five seconds after a write that failed; on a busy machine they may be over."""
            return (await site.post(large_report("refused"))).status_code == 503 and await site.ready() == 503

        await eventually(is_known)
        assert (await site.client.get(site.replica.url + "/health/live")).status_code == 200
        limit_files(site, resource.RLIM_INFINITY)
        assert (await site.post(large_report("after"))).status_code == 200
    await site.readable("before", "after")
    assert (await get_when_served(site.client, f"{site.replica.url}{CALLS}refused")).status_code == 404


async def test_a_disk_that_fails_does_not_matter_while_redis_takes_webhooks(open_site: Open) -> None:
    site = open_site(store_timeout_s=1.2)
    limit_files(site, ALMOST_NOTHING)
    await post_until_taken(site.client, site.replica, large_report("call-1"))
    await site.until_ready()
    await site.readable("call-1")


async def test_a_spool_that_filled_its_disk_is_drained_once_redis_is_back(small_disk: Path, open_site: Open) -> None:
    site = open_site(small_disk)
    with away(site.redis):
        kept = await fill(site, 2 * MEBIBYTE)
    await site.readable(*kept)
    await site.spool_holds(waiting=0)


@pytest.mark.parametrize(
    ("what", "workers"),
    [
        ("a file", 1),
        ("a folder in a file", 1),
        ("a file that is no spool", 1),
        ("a file", 2),
    ],
)
def test_a_folder_that_cannot_be_used_stops_the_start_with_one_line(tmp_path: Path, what: str, workers: int) -> None:
    (tmp_path / "file").write_text("nothing that a database would begin with" * 20)
    (tmp_path / "spool.sqlite3").write_text("nothing that a database would begin with" * 20)
    folder = {"a file": "file", "a folder in a file": "file/spool", "a file that is no spool": "."}[what]
    result = run(port=0, workers=workers, spool_dir=tmp_path / folder, redis_url="redis://127.0.0.1:1")
    assert result.returncode == 2
    assert result.stderr.startswith("SPOOL_DIR: ")
    assert len((result.stdout + result.stderr).strip().splitlines()) == 1
