"""Runs checks side by side, each with a deadline, so that none can delay or hide another."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from service.cli.doctor.findings import Finding, error
from service.errors import ServiceError

_T = TypeVar("_T")

SHARE_OF_DEADLINE: Final = 0.9
"""What a check may spend on one request, so that it can still say what was wrong with it."""


@dataclass(frozen=True)
class Check:
    """``name`` is for a check that fails or hangs; otherwise its findings have their own."""

    name: str
    find: Callable[[], Awaitable[list[Finding]]]
    extra_s: float = 0.0
    """Granted beyond the deadline, to a check that keeps it by itself, but first waits for another or cleans up after."""


async def run_checks(checks: Iterable[Check], within_s: float) -> list[Finding]:
    """The findings of all, in the order of the checks. When cancelled, it waits for the checks to clean up."""
    async with asyncio.TaskGroup() as group:  # a gather would leave the others behind
        running = [group.create_task(_run(check, within_s), name=check.name) for check in checks]
    return [finding for task in running for finding in task.result()]


async def _run(check: Check, within_s: float) -> list[Finding]:
    try:
        async with asyncio.timeout(within_s + check.extra_s):
            return await check.find()
    except TimeoutError:
        return [late(check.name, within_s)]
    except ServiceError as exc:
        return [error(check.name, str(exc), "mend this first, then run the doctor again")]
    except Exception as exc:  # noqa: BLE001 - a fault of one check must not hide what the others found
        return [
            error(check.name, f"the check itself failed: {type(exc).__name__}", "report this as a fault of the doctor")
        ]


def late(name: str, within_s: float) -> Finding:
    return error(name, f"no result within {within_s:g} s", "see what hangs; --timeout allows more time")


async def in_thread(work: Callable[..., _T], *args: Any) -> _T:
    """As ``asyncio.to_thread``, but a call that never returns, as on a dead network disk, does not keep us from ending."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[_T] = loop.create_future()

    def tell(method: Callable[[Any], None], value: object) -> None:
        if not outcome.done():
            method(value)

    def run() -> None:
        told: tuple[Callable[[Any], None], object]
        try:
            told = outcome.set_result, work(*args)
        except Exception as exc:  # noqa: BLE001 - raised where it is awaited
            told = outcome.set_exception, exc
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(tell, *told)

    threading.Thread(target=run, name="doctor", daemon=True).start()
    return await outcome
