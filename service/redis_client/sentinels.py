"""Asks the Sentinels who the master is: before each connection and every second."""

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
"""If the Sentinels no longer reach a master but we do, it takes webhooks for about this long after another was
promoted, and those are lost. Sentinels themselves check every server once a second."""

ASK_SENTINEL_S: Final = 0.3
"""Longest wait for the answer of a Sentinel. The others know the master as well."""

USUAL_ANSWER_S: Final = 0.1
"""All Sentinels that answer within this time are heard: one may know a newer master. Later, one answer is enough."""

ASK_AGAIN_S: Final = 0.1
"""Shortest pause between two inquiries, even if every write calls ``inquire_soon``."""


@dataclass(frozen=True, slots=True)
class Named:
    """The master that a Sentinel names, and the number of the failover that promoted it."""

    address: Address
    config_epoch: int


class Sentinels(Sentinel):
    """redis-py's Sentinel, changed to ask all Sentinels at once and to believe the newest configuration.

    redis-py asks one after the other and believes the first. During a failover Sentinels disagree for a moment, and one
    that is cut off names the old master until it is reconnected; connections would go back and forth. A majority has
    authorized each ``config-epoch``, and among Sentinels, too, the greatest one wins:
    https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/#configuration-epochs

    Args:
        hosts: addresses of the Sentinels.
        service: the name under which they know the master.
        options: of the connections to them.
    """

    def __init__(self, hosts: list[Address], service: str, options: dict[str, Any]) -> None:
        super().__init__(hosts, sentinel_kwargs=options)  # type: ignore[no-untyped-call]
        self._service = service
        self._clients: tuple[Redis, ...] = tuple(self.sentinels)
        self._last_answers: dict[int, Named] = {}
        """The last answer of each Sentinel, by its index; still used while the Sentinel is silent."""
        self._inquiry: asyncio.Task[set[Address]] | None = None
        self._inquiry_wanted = asyncio.Event()
        self._master: Address | None = None
        self.on_new_master: list[Callable[[], None]] = []
        """Called when the Sentinels name another master than before."""

    async def discover_master(self, service_name: str) -> Address:
        """The master's address; redis-py calls this before it connects. Concurrent callers share one inquiry.

        Raises:
            MasterNotFoundError: no Sentinel answers, none knows the service, or all that answer report the master down.
        """
        if self._inquiry is None or self._inquiry.done():
            self._inquiry = asyncio.get_running_loop().create_task(self._inquire(), name="sentinel-inquiry")
        living_masters = await asyncio.shield(self._inquiry)
        if self._master is None or self._master not in living_masters:
            raise MasterNotFoundError(f"no Sentinel knows of a living master of {service_name!r}")
        return self._master

    def inquire_soon(self) -> None:
        """Inquire soon: something happened that may mean the master was replaced."""
        self._inquiry_wanted.set()

    async def close(self) -> None:
        if self._inquiry is not None:
            await self._inquiry
        await self.aclose()

    async def watch(self) -> None:
        """Ask every second, until cancelled."""
        while True:
            with suppress(MasterNotFoundError):
                await self.discover_master(self._service)
            self._inquiry_wanted.clear()
            await asyncio.sleep(ASK_AGAIN_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(ASK_EVERY_S - ASK_AGAIN_S):
                    await self._inquiry_wanted.wait()

    async def _inquire(self) -> set[Address]:
        """The masters named now, by Sentinels that do not report them as down."""
        asking = [asyncio.ensure_future(self._ask(number)) for number in range(len(self._clients))]
        heard, _ = await asyncio.wait(asking, timeout=USUAL_ANSWER_S)
        if not any(answer.result() for answer in heard):
            await asyncio.wait(asking)
        for late in asking:
            late.cancel()
        answers = await asyncio.gather(*asking, return_exceptions=True)
        self._believe()
        return {answer for answer in answers if isinstance(answer, tuple)}

    def _believe(self) -> None:
        votes = Counter(self._last_answers.values())
        if not votes:
            return
        newest = max(votes, key=lambda named: (named.config_epoch, votes[named], named.address == self._master))
        before, self._master = self._master, newest.address
        if before not in (None, newest.address):
            log.warning("master.replaced", config_epoch=newest.config_epoch)
            for tell in self.on_new_master:
                tell()

    async def _ask(self, number: int) -> Address | None:
        """Remember the master that this Sentinel names. Returns it unless the Sentinel is silent or reports it as down.

        SENTINEL MASTER shows the old master until the failover is over, GET-MASTER-ADDR-BY-NAME the new one as soon as
        it is promoted. The former is sent first, so that an old address never comes with a newer config-epoch.
        """
        questions = self._clients[number].pipeline(transaction=False)
        questions.sentinel_master(self._service)
        questions.sentinel_get_master_addr_by_name(self._service)
        try:
            async with asyncio.timeout(ASK_SENTINEL_S):
                state, address = await questions.execute()
            host, port = address
            named = Named((host.decode(), int(port)), state["config-epoch"])
            is_dead = (state["is_sdown"] or state["is_odown"]) and (state["ip"], state["port"]) == named.address
        except (RedisError, OSError, TimeoutError, LookupError, TypeError, ValueError) as exc:
            # There is no server, it does not know the service, or it is not a Sentinel.
            log.debug("sentinel.silent", error=str(exc))
            return None
        self._last_answers[number] = named
        return None if is_dead else named.address
