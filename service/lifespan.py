"""What runs beside the requests: opened before the first, closed after the last; and how the end is announced."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any, Final

import structlog
from starlette.routing import Router

from service import __version__
from service.api.state import State
from service.calls.sweep import SWEEP_EVERY_S
from service.config import settings_not_in_use
from service.errors import StoreUnavailableError
from service.log_writer import drain_logs
from service.metrics import forget_dead_workers
from service.store.connection import RedisTopology
from service.store.embedded import FREE_EVERY_S, free_expired
from service.store.spool_drain import DRAIN_EVERY_S

log = structlog.get_logger(__name__)

COUNTS_EVERY_S: Final = 1.0

PUBLISH_EVERY_S: Final = 0.1
"""How far the other workers' metrics may lag behind."""


def lifespan_of(state: State, redis: RedisTopology) -> Callable[[Router], Any]:
    @asynccontextmanager
    async def lifespan(_: Router) -> AsyncIterator[dict[str, Any]]:
        forget_dead_workers()
        started_at_ms = round(time.time() * 1000)

        async def write_counts() -> None:
            now_ms = round(time.time() * 1000)
            await state.counts.write(state.metrics.sums(), started_at_ms=started_at_ms, now_ms=now_ms)

        async def publish() -> None:
            state.metrics.publish()

        redis.commands.start()
        state.changes.start()
        loop = asyncio.get_running_loop()
        background = [
            loop.create_task(repeat(state.sweep.sweep, SWEEP_EVERY_S), name="sweep"),
            loop.create_task(repeat(write_counts, COUNTS_EVERY_S), name="counts"),
            loop.create_task(repeat(publish, PUBLISH_EVERY_S), name="metrics"),
        ]
        if state.settings.redis_url.startswith("memory://"):
            free = partial(free_expired, redis.commands)
            background.append(loop.create_task(repeat(free, FREE_EVERY_S), name="free-expired"))
        if state.spool is not None:
            drain = partial(state.spool.drain_in_background, state.calls.merge, state.metrics.merged)
            background.append(loop.create_task(repeat(drain, DRAIN_EVERY_S), name="spool-drain"))
        if (subscriptions := state.subscriptions) is not None:
            background.append(loop.create_task(repeat(subscriptions.take_up, 0.0), name="subscriptions"))
        if (reconciler := state.reconciler) is not None:
            background += [loop.create_task(reconciler.work(), name="reconciler") for _ in range(reconciler.workers)]
        if redis.sentinels is not None:
            background.append(loop.create_task(repeat(redis.sentinels.watch, 0.0), name="sentinels"))
        if state.settings.is_open:
            log.warning(
                "service.unauthenticated",
                advice="anybody on this machine may do everything; set VAPI_WEBHOOK_SECRET, API_READ_TOKENS and "
                "API_ADMIN_TOKENS",
            )
        if state.settings.can_place_calls and state.settings.can_fail_over and not state.settings.store_wait_replicas:
            log.warning(
                "service.may_phone_twice",
                advice="a failover of Redis may lose the claim of an Idempotency-Key, and a repeated request then rings "
                "again; set STORE_WAIT_REPLICAS=1, with two replicas or more",
            )
        for variable in settings_not_in_use(state.settings):
            log.warning("setting.not_in_use", variable=variable)
        log.info("service.started", version=__version__, store=state.settings.redis_url.split("://")[0])
        with drain_on_signal(state):
            yield {"connections": state.connections}
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await state.sweep.close()
        closing = [state.placing.close(), state.batches.close()]
        if subscriptions is not None:
            closing.append(subscriptions.close())
        await asyncio.gather(*closing)  # at once: one after the other they would take longer than orchestrators wait
        with suppress(StoreUnavailableError):
            await write_counts()
        await state.changes.close()
        if state.spool is not None:
            await state.spool.close()
        if state.vapi is not None:
            await state.vapi.close()
        if state.kestra is not None:
            await state.kestra.close()
        await redis.commands.close()
        if redis.sentinels is not None:
            await redis.sentinels.close()
        log.info("service.stopped")
        drain_logs()

    return lifespan


async def repeat(work: Callable[[], Awaitable[object]], every_s: float) -> None:
    """Do it again and again, for ever: one failure is logged and does not end it."""
    while True:
        started = time.monotonic()
        try:
            await work()
        except StoreUnavailableError:
            log.debug("background.waits_for_redis")
        except Exception:
            log.exception("background.failed")
        await asyncio.sleep(max(0.0, every_s - (time.monotonic() - started)))


@contextmanager
def drain_on_signal(state: State) -> Iterator[None]:
    """On SIGTERM, answer parked polls and say not ready at once, but keep serving for ``DRAIN_S`` before exiting.

    The server's own handler closes the listening socket at once, while load balancers still send requests to it.
    SIGINT (somebody at a keyboard) does not wait. Without a server's handler, as in tests, nothing is changed.
    """
    loop = asyncio.get_running_loop()
    waits = {signal.SIGTERM: state.settings.drain_s, signal.SIGINT: 0.0}
    originals = {number: signal.getsignal(number) for number in waits}
    if threading.current_thread() is not threading.main_thread() or not callable(originals[signal.SIGTERM]):
        yield
        return

    def stop(number: int) -> None:
        original = originals[signal.Signals(number)]
        if callable(original):
            original(number, None)

    def drain(number: int) -> None:
        if not state.changes.is_draining:
            log.info("service.draining", signal=signal.Signals(number).name)
            state.changes.drain()
            loop.call_later(waits[signal.Signals(number)], stop, number)
        elif number == signal.SIGINT:
            stop(number)

    def on_signal(number: int, _: FrameType | None) -> None:
        loop.call_soon_threadsafe(drain, number)

    for number in waits:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number, original in originals.items():
            signal.signal(number, original)
