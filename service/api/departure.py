"""Notices that the client of a parked poll or an event stream went away."""

from __future__ import annotations

import asyncio

from starlette.types import Receive

from service.store.changes import Waiter


def watch_for_departure(receive: Receive, waiter: Waiter) -> asyncio.Task[None]:
    """A task that ends, and wakes the waiter, when the client goes away."""

    async def until_gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    gone = asyncio.get_running_loop().create_task(until_gone(), name="client-departure")
    gone.add_done_callback(lambda _: waiter.wake())
    return gone
