"""A replica with a spool, the Redis that it loses, and what these tests look at meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx2

from tests.support.access_log import answers_of, log_length, slowest_s
from tests.support.eventually import PATIENCE_S, eventually, eventually_sync
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.routes import STATS
from tests.support.traffic import (
    ask_despite_late_disk,
    get_stats,
    post_webhook,
    until_readable,
    until_ready,
    webhooks_counted,
)

SPAWNED = b"from multiprocessing.spawn import spawn_main"

SERVES = "Application startup complete."

QUICK = {"store_timeout_s": 0.5}
"""Most tests only wait for the outage to be noticed."""


class Site:
    """One replica, its spool's folder and its Redis; each test has its own folder, most a replica of their own."""

    def __init__(self, redis: RedisProcess, folder: Path, client: httpx2.AsyncClient, **settings: object) -> None:
        self.redis = redis
        self.folder = folder
        self.client = client
        self.settings: dict[str, object] = {
            **QUICK, "redis_url": redis.url, "redis_key_prefix": folder.parent.name[:64], "spool_dir": folder, **settings,
        }  # fmt: skip
        self.replica = Replica(**self.settings)
        self.late_answers = 0
        """How often a webhook was refused because the spool's disk was late, and posted again. It may be kept twice."""

    def start(self) -> Self:
        """Return when every worker serves: one that is stopped while it opens the file would hold it."""
        self.replica.start()
        workers = int(str(self.settings.get("workers", 1)))
        eventually_sync(lambda: self.replica.log.count(SERVES) >= workers)
        return self

    def restart_after_kill(self) -> None:
        """SIGKILL to every process of the replica, then a new one on the same folder."""
        victims = [*workers_of(self.replica), self.replica.pid]
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        self.replica.wait()
        self.replica = Replica(**self.settings).start()

    async def post(self, body: Any) -> httpx2.Response:
        """On a connection of its own: with several workers, all of them get some."""
        *late, answer = await ask_despite_late_disk(
            lambda: post_webhook(self.client, self.replica, body, Connection="close")
        )
        self.late_answers += len(late)
        return answer

    async def post_all(self, bodies: list[Any]) -> set[int]:
        """Post them at once; the statuses that came."""
        return {answer.status_code for answer in await asyncio.gather(*map(self.post, bodies))}

    async def ready(self) -> int:
        return (await self.client.get(self.replica.url + "/health/ready")).status_code

    async def until_ready(self) -> None:
        await until_ready(self.client, self.replica)

    async def stats(self) -> dict[str, Any]:
        return await get_stats(self.client, self.replica.url)

    async def spool_holds(self, *, waiting: int, rejected: int = 0) -> None:
        """Return when it does."""

        async def it_does() -> bool:
            answer = await self.client.get(self.replica.url + STATS)
            if answer.status_code != 200:
                return False
            held = answer.json()["stats"]["store"]["spool"]
            return (held["waiting"], held["rejected"]) == (waiting, rejected)

        await eventually(it_does)

    async def spooled_count(self) -> int:
        """How many webhooks the metrics count as spooled."""
        return await webhooks_counted(self.client, self.replica, "spooled")

    async def readable(self, *call_ids: str, within_s: float = PATIENCE_S) -> None:
        """Return when all of these calls can be polled."""
        await until_readable(self.client, self.replica, call_ids, within_s)

    def on_disk(self) -> bytes:
        """Every byte of the spool's files."""
        return b"".join(path.read_bytes() for path in sorted(self.folder.iterdir()))


def workers_of(replica: Replica) -> set[int]:
    children = Path(f"/proc/{replica.pid}/task/{replica.pid}/children").read_text().split()
    return {int(pid) for pid in children if SPAWNED in Path(f"/proc/{pid}/cmdline").read_bytes()}


@contextmanager
def away(redis: RedisProcess) -> Iterator[None]:
    """Redis refuses connections meanwhile, and is empty afterwards."""
    redis.kill()
    try:
        yield
    finally:
        redis.start()


@contextmanager
def hanging(redis: RedisProcess) -> Iterator[None]:
    redis.pause()
    try:
        yield
    finally:
        redis.resume()


async def timed_post(site: Site, body: Any) -> tuple[httpx2.Response, float]:
    """The answer, and how many seconds it took by the replica's own clock."""
    since = await log_length(site.replica)
    answer = await site.post(body)
    return answer, slowest_s(await answers_of(site.replica, 1, lambda _: True, since=since))
