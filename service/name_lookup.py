"""Looks a callback's host up, and refuses addresses that the operator did not mean."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from service.callback_url import Address, CallbackUrl, find_address, is_public, unwrap
from service.errors import UpstreamError

MOST_LOOKUPS: Final = 2
"""Threads that one destination may occupy while its name servers hang."""

MOST_ADDRESSES: Final = 4
"""Addresses of a host that are tried, so that a long list does not use up the time of a try."""


class NameLookup:
    """Look-ups for one destination.

    They run in threads of their own, because those of the event loop are shared, and the end of the process waits for
    them. ``getaddrinfo`` cannot be interrupted and may take half a minute.
    """

    def __init__(self, look_up: Callable[[str, int], list[Address]] | None = None) -> None:
        self._blocking_look_up = look_up or addresses_of
        self._under_way = 0

    async def find_addresses(self, url: CallbackUrl) -> list[str]:
        """The addresses to connect to, in the system's order.

        Raises:
            UpstreamError: the host is unknown, or one of its addresses is not allowed.
        """
        if (literal := find_address(url.host)) is not None:
            return [str(literal)]  # the operator wrote it into a prefix
        addresses = await self._look_up(url.host, url.port)
        if not addresses:
            raise UpstreamError("The host of the callback is unknown")
        if not all(is_meant(address, is_host_private=url.is_host_private) for address in addresses):
            raise UpstreamError("The host of the callback leads to an address that is not public")
        return [str(address) for address in addresses[:MOST_ADDRESSES]]

    async def _look_up(self, host: str, port: int) -> list[Address]:
        if self._under_way >= MOST_LOOKUPS:
            raise UpstreamError("The name servers of the callback's host do not answer")
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[Address]] = loop.create_future()

        def finish(addresses: list[Address]) -> None:
            self._under_way -= 1
            if not found.done():
                found.set_result(addresses)

        def look_up() -> None:
            addresses = self._blocking_look_up(host, port)
            with suppress(RuntimeError):  # the event loop has ended
                loop.call_soon_threadsafe(finish, addresses)

        self._under_way += 1
        threading.Thread(target=look_up, name="callback-lookup", daemon=True).start()
        return await found


def addresses_of(host: str, port: int) -> list[Address]:
    """All addresses of the host, each once; none where it is unknown. Blocks."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(ipaddress.ip_address(place[0]) for *_, place in found))


def is_meant(address: Address, *, is_host_private: bool) -> bool:
    """Whether a host may lead there. A private host may lead into private networks, but not to a cloud's metadata."""
    if not is_host_private:
        return is_public(address)
    plain = unwrap(address)
    return not (plain.is_multicast or plain.is_unspecified or plain.is_link_local)
