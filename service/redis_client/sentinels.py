"""Who the master is, by the word of the Sentinels: asked before each connection and every second."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

Address = tuple[str, int]

ASK_EVERY_S: Final = 1.0
"""A master that its Sentinels no longer reach, but we do, takes webhooks for about so long after another was promoted:
what it acknowledges then is lost. Sentinels themselves look at every server once a second."""

ASK_SENTINEL_S: Final = 0.3
"""How long a Sentinel may take to answer; one that hangs is not waited for, another knows as well."""

USUAL_ANSWER_S: Final = 0.1
"""All Sentinels that answer so soon are heard, because one of them may know more; then any answer will do."""

ASK_AGAIN_S: Final = 0.1
"""Shortest pause between two questions, when every write asks for one."""


@dataclass(frozen=True, slots=True)
class Named:
    """The master that a Sentinel names, and the number of the failover which made it that."""

    address: Address
    config_epoch: int


class Sentinels(Sentinel):
    """redis-py's Sentinel, which asks all of them at once and believes the newest configuration.

    redis-py asks one after the other and believes the first. During a failover they disagree for a moment, and one that is
    cut off names the old master for as long as that lasts; connections would go back and forth. A majority has
    authorized each ``config-epoch``, and a greater one always wins among Sentinels, too:
    https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/#configuration-epochs

    Args:
        hosts: addresses of the Sentinels.
        service: the name under which they know the master.
        options: of the connections to them.
    """

    def __init__(self, hosts: list[Address], service: str, options: dict[str, Any]) -> None:
        super().__init__(hosts, sentinel_kwargs=options)  # type: ignore[no-untyped-call]
        self._service = service
        self._asked: tuple[Redis, ...] = tuple(self.sentinels)
        self._last_words: dict[int, Named] = {}
        """Of each Sentinel (by its place in the list); one that is silent now is still believed."""
        self._inquiry: asyncio.Task[set[Address]] | None = None
        self._has_doubts = asyncio.Event()
        self._master: Address | None = None
        self.on_new_master: list[Callable[[], None]] = []
        """Called when the Sentinels name another master than before."""

    async def discover_master(self, service_name: str) -> Address:
        """What redis-py calls before it connects; whoever asks at the same time shares one inquiry.

        Raises:
            MasterNotFoundError: no Sentinel answers, none knows the service, or all that answer hold its master for dead.
        """
        if self._inquiry is None or self._inquiry.done():
            self._inquiry = asyncio.get_running_loop().create_task(self._inquire(), name="sentinel-inquiry")
        named = await asyncio.shield(self._inquiry)
        if self._master is None or self._master not in named:
            raise MasterNotFoundError(f"no Sentinel knows of a living master of {service_name!r}")
        return self._master

    def ask_soon(self) -> None:
        """Something happened that also happens to a master which was replaced."""
        self._has_doubts.set()

    async def close(self) -> None:
        if self._inquiry is not None:
            await self._inquiry
        await self.aclose()

    async def watch(self) -> None:
        """Ask every second, for as long as the process lives."""
        while True:
            with suppress(MasterNotFoundError):
                await self.discover_master(self._service)
            self._has_doubts.clear()
            await asyncio.sleep(ASK_AGAIN_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(ASK_EVERY_S - ASK_AGAIN_S):
                    await self._has_doubts.wait()

    async def _inquire(self) -> set[Address]:
        """The masters that are named now, by those Sentinels which do not hold them for dead."""
        asking = [asyncio.ensure_future(self._ask(number)) for number in range(len(self._asked))]
        heard, _ = await asyncio.wait(asking, timeout=USUAL_ANSWER_S)
        if not any(answer.result() for answer in heard):
            await asyncio.wait(asking)
        for late in asking:
            late.cancel()
        answers = await asyncio.gather(*asking, return_exceptions=True)
        self._believe()
        return {answer for answer in answers if isinstance(answer, tuple)}

    def _believe(self) -> None:
        votes = Counter(self._last_words.values())
        if not votes:
            return
        newest = max(votes, key=lambda named: (named.config_epoch, votes[named], named.address == self._master))
        before, self._master = self._master, newest.address
        if before not in (None, newest.address):
            log.warning("master.replaced", config_epoch=newest.config_epoch)
            for tell in self.on_new_master:
                tell()

    async def _ask(self, number: int) -> Address | None:
        """Remember whom that Sentinel names; returns it unless the Sentinel is silent or holds it for dead.

        Its own state speaks of the old master until the failover is over, GET-MASTER-ADDR-BY-NAME of the new one as soon
        as it is promoted. The state is asked for first: what changes between the two must not make an old address newer.
        """
        questions = self._asked[number].pipeline(transaction=False)
        questions.sentinel_master(self._service)
        questions.sentinel_get_master_addr_by_name(self._service)
        try:
            async with asyncio.timeout(ASK_SENTINEL_S):
                state, address = await questions.execute()
            host, port = address
            named = Named((host.decode(), int(port)), state["config-epoch"])
            is_dead = (state["is_sdown"] or state["is_odown"]) and (state["ip"], state["port"]) == named.address
        except (RedisError, OSError, TimeoutError, LookupError, TypeError, ValueError) as exc:
            # Nobody is there, does not know the service, or is no Sentinel.
            log.debug("sentinel.silent", error=str(exc))
            return None
        self._last_words[number] = named
        return None if is_dead else named.address
