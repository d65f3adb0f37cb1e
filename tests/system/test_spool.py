"""A replica with a spool: Redis goes away, processes are killed, and nothing that was answered 200 is missing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, suppress
from pathlib import Path

import pytest
from redis import Redis

from service.store.keys import Keys
from service.store.spool_file import FILE_NAME
from tests.support.access_log import LONGEST_ANSWER_S, answers_of, log_length, slowest_s
from tests.support.eventually import eventually
from tests.support.raw_http import RawAnswer, post
from tests.support.redis_server import RedisProcess
from tests.support.routes import CALLS
from tests.support.spool_site import Site, away, hanging, timed_post, workers_of
from tests.support.traffic import LATE_DISK, answers_at_once, ask_until_served, get_record, get_when_served
from tests.support.vapi_sender import SAMPLE_CALL_ID, full_report, message, sample, sample_names, status_update

SECRETS = (b"MUST-NOT-BE-STORED", b"monitor", b"listenUrl", b"controlUrl", b"X-Amz-Signature")

Open = Callable[..., Site]
Outage = Callable[[RedisProcess], AbstractContextManager[None]]


@pytest.fixture
def site(open_site: Open) -> Site:
    return open_site()


def plain_client(site: Site) -> AbstractContextManager[Redis]:
    return closing(Redis(port=site.redis.port))


def keys_of(site: Site) -> Keys:
    return Keys(str(site.settings["redis_key_prefix"]))


@pytest.mark.parametrize("outage", [away, hanging])
async def test_a_webhook_that_redis_cannot_take_is_answered_200_within_2_seconds_counted_and_readable_afterwards(
    open_site: Open, outage: Outage
) -> None:
    site = open_site(store_timeout_s=1.0)
    with outage(site.redis):
        answer, seconds = await timed_post(site, full_report("call-1"))
        assert (answer.status_code, answer.json()["success"]) == (200, True)
        assert seconds < LONGEST_ANSWER_S
        assert await site.spooled_count() == 1
        await site.until_ready()
    await site.readable("call-1")
    record = await get_record(site.client, site.replica, "call-1")
    assert (record["data_status"], record["transcript"]) == ("complete", {"text": "AI: Hello.\nUser: Hi.\n"})
    await site.spool_holds(waiting=0)


async def test_the_stats_count_what_was_spooled_and_each_drained_call_once(open_site: Open) -> None:
    site = open_site(workers=2)
    with away(site.redis):
        assert await site.post_all([full_report(f"call-{number}") for number in range(150)]) == {200}
    await site.spool_holds(waiting=0)

    async def are_all_counted() -> bool:
        stats = await site.stats()
        return (stats["webhooks"]["received"], stats["calls"]["ended"]) == (150 + site.late_answers, 150)

    with suppress(TimeoutError):  # counts may lag; what they are in the end is told below
        await eventually(are_all_counted)
    stats = await site.stats()
    assert (stats["webhooks"]["spooled"], stats["webhooks"]["failed"]) == (150, site.late_answers)
    assert (stats["size"], stats["calls"]["ended"], stats["calls"]["completed"]) == (150, 150, 150)
    assert stats["webhooks"]["delivery_success_rate"] == pytest.approx(150 / (150 + site.late_answers), abs=1e-3)


async def test_a_call_is_counted_once_although_a_hanging_redis_took_its_report_after_all(site: Site) -> None:
    """What was written to a Redis that hangs is applied when it goes on, before the spool is drained."""
    await site.post(status_update("ringing", "before"))  # from then on Redis knows the script by its hash
    with hanging(site.redis):
        assert await site.post_all([full_report(f"call-{number}") for number in range(20)]) == {200}
    await site.spool_holds(waiting=0)

    async def are_all_counted() -> bool:
        calls = (await site.stats())["calls"]
        return (calls["ended"], calls["completed"]) == (20, 20)

    await eventually(are_all_counted)


@pytest.mark.parametrize("redis_at_the_restart", ["back", "away"])
@pytest.mark.parametrize("workers", [1, 2])
async def test_what_was_acknowledged_survives_kill_9_of_the_whole_replica(
    open_site: Open, workers: int, redis_at_the_restart: str
) -> None:
    site = open_site(workers=workers)
    call_ids = [f"call-{number}" for number in range(20)]
    with away(site.redis):
        assert await site.post_all([full_report(call_id) for call_id in call_ids]) == {200}
        if redis_at_the_restart == "away":
            site.restart_after_kill()
            await site.until_ready()
        else:
            os.kill(site.replica.pid, signal.SIGSTOP)  # so that nothing is drained before the kill
            for pid in workers_of(site.replica):
                os.kill(pid, signal.SIGSTOP)
    if redis_at_the_restart == "back":
        site.restart_after_kill()
    await site.readable(*call_ids)


async def test_what_a_killed_worker_spooled_is_drained_by_the_others(open_site: Open) -> None:
    site = open_site(workers=2)
    victim, other = workers_of(site.replica)
    with away(site.redis):
        os.kill(other, signal.SIGSTOP)
        assert await site.post_all([full_report(f"call-{number}") for number in range(30)]) == {200}
        os.kill(victim, signal.SIGKILL)
        os.kill(other, signal.SIGCONT)
    await site.readable(*(f"call-{number}" for number in range(30)))


async def test_what_is_in_the_spool_of_each_kind_of_message_holds_no_secret(site: Site) -> None:
    bodies = [sample(name, f"sample-{number}") for number, name in enumerate(sample_names())]
    posted = json.dumps(bodies).encode()
    assert all(secret in posted for secret in (b"MUST-NOT-BE-STORED", b"X-Amz-Signature"))
    with away(site.redis):
        assert await site.post_all(bodies) == {200}
        kept = site.on_disk()
    assert b"sample-1" in kept
    assert SAMPLE_CALL_ID.encode() not in kept
    assert [secret for secret in SECRETS if secret in kept] == []


async def test_what_can_never_be_applied_is_set_aside_and_blocks_nothing_behind_it(site: Site) -> None:
    with plain_client(site) as redis:
        redis.set(keys_of(site).call(b"broken").decode(), "a string")
        with closing(sqlite3.connect(site.folder / FILE_NAME, isolation_level=None)) as file:
            file.execute("INSERT INTO spooled (id, call_id, spooled_at_ms, size_bytes) VALUES (1, 'garbage', 1, 3)")
            file.execute("INSERT INTO changes VALUES (1, x'c1c1c1')")
        assert (await site.post(status_update("ringing", "broken"))).status_code == 200
        await site.spool_holds(waiting=0, rejected=2)
        with hanging(site.redis):
            await site.post(status_update("ringing", "behind"))
        await site.readable("behind")
        await site.spool_holds(waiting=0, rejected=2)
        assert redis.get(keys_of(site).call(b"broken").decode()) == b"a string"


@pytest.mark.parametrize("trouble", [("CONFIG", "SET", "maxmemory", "1mb"), ("REPLICAOF", "127.0.0.1", "1")])
async def test_a_full_or_demoted_redis_sets_nothing_aside(site: Site, trouble: tuple[str, ...]) -> None:
    with plain_client(site) as redis:
        redis.execute_command(*trouble)  # type: ignore[no-untyped-call]
        assert (await site.post(full_report("call-1"))).status_code == 200
        await asyncio.sleep(0.8)  # the drain tries meanwhile
        assert b"call-1" in site.on_disk()
        redis.execute_command("CONFIG", "SET", "maxmemory", "0")  # type: ignore[no-untyped-call]
        redis.execute_command("REPLICAOF", "NO", "ONE")  # type: ignore[no-untyped-call]
    await site.readable("call-1")
    await site.spool_holds(waiting=0, rejected=0)


async def test_a_deleted_call_stays_deleted_when_its_webhooks_come_out_of_the_spool(site: Site, tmp_path: Path) -> None:
    prefix = site.settings["redis_key_prefix"]
    elsewhere = Site(site.redis, tmp_path / "elsewhere", site.client, redis_key_prefix=prefix).start()
    with hanging(site.redis):
        assert await site.post_all([full_report("deleted"), full_report("other")]) == {200}
        os.kill(site.replica.pid, signal.SIGSTOP)  # so that the deletion comes before the drain
    try:
        url = f"{elsewhere.replica.url}{CALLS}deleted"
        assert (await ask_until_served(lambda: site.client.delete(url))).status_code in (200, 404)
    finally:
        elsewhere.replica.stop()
        os.kill(site.replica.pid, signal.SIGCONT)
    await site.readable("other")
    await site.spool_holds(waiting=0)
    assert (await get_when_served(site.client, f"{site.replica.url}{CALLS}deleted")).status_code == 404


async def test_a_live_call_gets_its_reply_and_its_context_is_spooled(site: Site) -> None:
    with away(site.redis):
        answer = await site.post(message("assistant-request", "live-1"))
        assert "error" in answer.json()
    await site.readable("live-1")


async def test_300_webhooks_at_once_are_all_kept_in_time(open_site: Open) -> None:
    site = open_site(store_timeout_s=1.0)
    call_ids = [f"call-{number}" for number in range(300)]
    with away(site.redis):
        since = await log_length(site.replica)
        requests = [post(json.dumps(full_report(call_id)).encode()) for call_id in call_ids]
        answers = await answers_at_once(site.replica, requests)
        timed = await answers_of(site.replica, 300, lambda _: True, since=since)
        late = [call_id for call_id, answer in zip(call_ids, answers, strict=True) if is_late_disk(answer)]
        assert await site.post_all([full_report(call_id) for call_id in late]) <= {200}
    assert [answer.status for answer in answers if answer.status != 200 and not is_late_disk(answer)] == []
    assert slowest_s(timed) < LONGEST_ANSWER_S
    await site.readable(*call_ids)


def is_late_disk(answer: RawAnswer) -> bool:
    """As a busy one may be for some of 300 at once; no other refusal is right."""
    return answer.status == 503 and LATE_DISK in answer.json()["error"]
