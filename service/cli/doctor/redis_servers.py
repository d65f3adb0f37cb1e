"""Asks every Redis master what it is, how fast it is, and what our user may do there."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Awaitable, Callable
from typing import Final

from service.cli.doctor.checking import SHARE_OF_DEADLINE, Check, late
from service.cli.doctor.findings import Finding, error, ok, warning
from service.cli.doctor.redis_settings import is_replica, judge, judge_clock, judge_latency
from service.config import Settings
from service.errors import StoreUnavailableError
from service.redis_client.topology import RedisTopology
from service.store.health import StoreHealth
from service.store.keys import Keys
from service.store.rights import find_missing_rights
from service.store.server_info import ServerInfo, measure_pings, read_clock, read_info

PINGS: Final = 21

EMBEDDED: Final = warning(
    "store",
    "REDIS_URL is memory://: everything is kept in the one process, and lost with it",
    "set REDIS_URL to a Redis for anything but trying it out",
)

Look = Callable[[int], Awaitable[list[Finding]]]
"""What is found at the master of a bucket."""


class RedisServers:
    """The commands must have been started."""

    def __init__(self, settings: Settings, redis: RedisTopology, within_s: float) -> None:
        self._settings = settings
        self._within_s = within_s
        self._redis = redis
        self._reached: asyncio.Task[tuple[dict[str, int], list[Finding]]] | None = None
        self._info: dict[int, asyncio.Task[ServerInfo]] = {}

    @property
    def checks(self) -> list[Check]:
        if self._settings.redis_url.startswith("memory:"):
            return [Check("store", self._find_embedded)]
        looks: dict[str, Look] = {
            "settings": self._look_at_settings,
            "latency": self._look_at_latency,
            "clock": self._look_at_clock,
            "rights": self._look_at_rights,
        }
        return [
            Check("reachable", self._find_reached),
            *(Check(name, self._at_every_master(name, look), extra_s=self._within_s) for name, look in looks.items()),
        ]

    async def _find_embedded(self) -> list[Finding]:
        return [EMBEDDED]

    async def _find_reached(self) -> list[Finding]:
        _, findings = await self._reach()
        return findings

    async def _reach(self) -> tuple[dict[str, int], list[Finding]]:
        """The masters that answer, by name with one of their buckets, and what there is to say about all of them."""
        if self._reached is None:
            self._reached = asyncio.create_task(self._try_all(), name="doctor-reach")
        return await asyncio.shield(self._reached)

    async def _try_all(self) -> tuple[dict[str, int], list[Finding]]:
        """Keeps the deadline itself, or each check that waits for it would say that it had no result."""
        try:
            async with asyncio.timeout(self._within_s * SHARE_OF_DEADLINE):
                return await self._try_masters()
        except TimeoutError:
            return {}, [late("reachable", self._within_s)]

    async def _try_masters(self) -> tuple[dict[str, int], list[Finding]]:
        masters = await self._redis.commands.find_masters()
        health = StoreHealth(self._redis.commands, Keys(self._settings.redis_key_prefix))
        probe, answers = await asyncio.gather(
            health.probe(), asyncio.gather(*(self._answers(bucket) for bucket in masters.values()))
        )
        problems = {name: each.problem for name, each in probe.masters.items() if each.problem is not None}
        reached = {name: bucket for (name, bucket), is_there in zip(masters.items(), answers, strict=True) if is_there}
        if not problems:
            count = f"{len(masters)} masters" if len(masters) > 1 else "it"
            return reached, [ok("reachable", f"{count} took a write within {probe.latency_ms:.0f} ms")]
        return reached, [self._not_writable(name, problem, masters) for name, problem in problems.items()]

    def _not_writable(self, name: str, problem: str, masters: dict[str, int]) -> Finding:
        where = f"{name}: " if len(masters) > 1 else ""
        mend = "check REDIS_URL, the network, and that server; until then webhooks are spooled or answered 503"
        if "+cluster:" in self._settings.redis_url:
            mend += "; in a Cluster the user needs +cluster|slots"
        return error("reachable", f"{where}a write fails: {problem}", mend)

    async def _answers(self, bucket: int) -> bool:
        try:
            await self._redis.commands.execute("PING", bucket=bucket)
        except StoreUnavailableError as exc:
            return "NoPermission" in type(exc.__cause__).__name__
        return True

    def _at_every_master(self, name: str, look: Look) -> Callable[[], Awaitable[list[Finding]]]:
        async def find() -> list[Finding]:
            masters, _ = await self._reach()
            try:
                async with asyncio.timeout(self._within_s):
                    found = await asyncio.gather(*(look(bucket) for bucket in masters.values()))
            except TimeoutError:
                return [late(name, self._within_s)]
            return merged(dict(zip(masters, found, strict=True)))

        return find

    async def _ask_info(self, bucket: int) -> ServerInfo:
        if bucket not in self._info:
            self._info[bucket] = asyncio.create_task(read_info(self._redis.commands, bucket), name="doctor-info")
        return await asyncio.shield(self._info[bucket])

    async def _look_at_settings(self, bucket: int) -> list[Finding]:
        try:
            facts = await self._ask_info(bucket)
        except StoreUnavailableError as exc:
            advice = "give the user +info; until then see for yourself: deploy/redis.conf"
            return [warning("settings", f"Redis does not show its settings: {exc.reason}", advice)]
        return list(judge(facts, self._settings))

    async def _look_at_latency(self, bucket: int) -> list[Finding]:
        took_s = await measure_pings(self._redis.commands, bucket, pings=PINGS)
        return [judge_latency(statistics.median(took_s), self._settings)]

    async def _look_at_clock(self, bucket: int) -> list[Finding]:
        clock = await read_clock(self._redis.commands, bucket)
        return [judge_clock(clock.ahead_s, clock.uncertain_s)]

    async def _look_at_rights(self, bucket: int) -> list[Finding]:
        try:
            if is_replica(await self._ask_info(bucket)):
                return []  # it refuses writes for another reason
        except StoreUnavailableError:
            pass
        rights = await find_missing_rights(self._redis, self._settings, bucket)
        if rights.missing:
            return [
                error(
                    "rights",
                    f"the user lacks {' '.join(rights.missing)}",
                    f"ACL SETUSER <user> {' '.join(rights.missing)}, as in deploy/README.md, a Redis user of its own",
                )
            ]
        if rights.missing_optional:
            found = "the user lacks +info: the service cannot see how full Redis is"
            return [warning("rights", found, "ACL SETUSER <user> +info")]
        return [ok("rights", "the user may do all that the service does")]


def merged(found: dict[str, list[Finding]]) -> list[Finding]:
    """The findings of one master as they are; of several, what they share once, and the rest with the master's name."""
    if len(found) < 2:
        return [finding for findings in found.values() for finding in findings]
    shared: list[Finding] = []
    for check in dict.fromkeys(finding.check for findings in found.values() for finding in findings):
        of_each = {name: finding for name, findings in found.items() for finding in findings if finding.check == check}
        if len({(each.level, each.found) for each in of_each.values()}) == 1:
            shared.append(next(iter(of_each.values())))
        elif all(each.level == "ok" for each in of_each.values()):
            shared.append(ok(check, "; ".join(f"{name}: {each.found}" for name, each in of_each.items())))
        else:
            shared += [
                Finding(each.level, check, f"{name}: {each.found}", each.advice)
                for name, each in of_each.items()
                if each.level != "ok"
            ]
    return shared
