"""Sends a call's final record to the callbacks that wait for it, each at least once, signed as a Standard Webhook.

Each origin has its own queue, its own tries and its own rest after a failure, so that one that is away delays no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from service import __version__
from service.callback_url import CallbackUrl, is_allowed
from service.config import Settings
from service.jobs.callback_destination import MAX_CONCURRENT, Destination, FindArchived, prefixes_of
from service.store.callback_calls import CallbackCalls, CallbackStanding
from service.store.calls import CallStore
from service.store.subscriptions import SubscriptionStore, TryResult

if TYPE_CHECKING:
    from service.outbound import Failure, HttpSession

_SENTENCES: Final[Mapping[Failure, str]] = {"broken": "{name} closed the connection without an answer"}


class Callbacks:
    """All callbacks of this process."""

    def __init__(
        self,
        settings: Settings,
        calls: CallStore,
        looks: CallbackCalls,
        stores: Mapping[bytes, SubscriptionStore],
        on_result: Callable[[TryResult], None],
        find_archived: FindArchived | None = None,
    ) -> None:
        self._prefixes = prefixes_of(settings)
        self._looks = looks
        self.standing = CallbackStanding()
        origins = origins_of(settings)
        open_session = _SessionOpener()
        self._destinations = {
            tag: Destination(origin, settings, stores[tag], calls, open_session, on_result, find_archived)
            for tag, origin in origins.items()
        }

    @property
    def destinations(self) -> Iterator[Destination]:
        yield from self._destinations.values()

    def is_allowed(self, url: CallbackUrl) -> bool:
        return is_allowed(url, self._prefixes)

    async def subscribe(self, call_id: bytes, url: CallbackUrl, *, is_archived: bool = False) -> None:
        """As ``LeasedTries.subscribe``."""
        subscriber = b"callback:%b:%b" % (url.origin_tag, url.tag)
        destination = self._destinations[url.origin_tag]
        await destination.subscribe(call_id, subscriber, url.text.encode(), is_archived=is_archived)

    def wake(self, bucket: int, origin_tag: bytes) -> None:
        """Callbacks to that origin are due in the bucket. Another replica may know origins that this one does not."""
        if (destination := self._destinations.get(origin_tag)) is not None:
            destination.wake(bucket)

    async def look(self) -> None:
        """Find what is due and was not announced here."""
        self.standing = await self._looks.look()
        for bucket, tag in self.standing.due_buckets:
            self.wake(bucket, tag)

    async def close(self) -> None:
        """Call it after cancelling the tasks that try and look."""
        await asyncio.gather(*(destination.close() for destination in self._destinations.values()))


class _SessionOpener:
    """Opens the session of an origin at its first callback. All share one TLS context, which takes 20 ms to load."""

    def __init__(self) -> None:
        self._sessions: list[HttpSession] = []

    def __call__(self, origin: str) -> HttpSession:
        from service.outbound import HttpSession  # noqa: PLC0415 - loading the HTTP client takes a third of the start

        session = HttpSession(
            "The callback's receiver",
            origin,
            {"User-Agent": f"vapi-cache/{__version__}"},
            tls=next((session.tls for session in self._sessions if session.tls), None),
            sentences=_SENTENCES,
            max_connections=MAX_CONCURRENT,
            max_answer_bytes=None,
            uses_proxies=False,
        )
        self._sessions.append(session)
        return session


def origins_of(settings: Settings) -> dict[bytes, str]:
    """The origins that callbacks may go to, by their tags."""
    return {prefix.origin_tag: prefix.origin for prefix in prefixes_of(settings)}
