"""Starts connections and background tasks before the first request, and stops them after the last."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any, Final

import msgspec
import structlog
from starlette.routing import Router

from service import __version__
from service.api.events.all_events import STATS_EVERY_S, publish_stats
from service.api.metrics import publish
from service.api.state import State
from service.errors import StoreUnavailableError
from service.jobs.archiver import ARCHIVE_EVERY_S
from service.jobs.late_refresh import WORKERS
from service.jobs.sweep import SWEEP_EVERY_S
from service.log_writer import write_remaining_lines
from service.redis_client.embedded import FREE_EVERY_S, free_expired
from service.redis_client.topology import RedisTopology
from service.shutdown import begin_on_signal
from service.store.spool_drain import DRAIN_EVERY_S

log = structlog.get_logger(__name__)

COUNTS_EVERY_S: Final = 1.0

PUBLISH_EVERY_S: Final = 0.1
"""How old the other workers' metrics may be."""


def lifespan_of(state: State, redis: RedisTopology) -> Callable[[Router], Any]:
    @asynccontextmanager
    async def lifespan(_: Router) -> AsyncIterator[dict[str, Any]]:
        started_at_ms = round(time.time() * 1000)

        async def write_counts() -> None:
            now_ms = round(time.time() * 1000)
            await state.counts.write(
                state.metrics.sums(),
                started_at_ms=started_at_ms,
                now_ms=now_ms,
                parked_polls=state.metrics.parked_polls,
                spool=None if state.spool is None else msgspec.structs.asdict(state.spool.held),
            )

        async with AsyncExitStack() as at_the_end:  # closes the other parts even if closing one fails
            at_the_end.callback(write_remaining_lines)
            at_the_end.callback(log.info, "service.stopped")
            _close_parts(at_the_end, state, redis)
            at_the_end.push_async_callback(_write_last_counts, write_counts)
            at_the_end.push_async_callback(_finish_work, state)
            redis.commands.start()
            state.changes.start()
            at_the_end.push_async_callback(_cancel, _start_background(state, redis, write_counts))
            _log_start(state)
            with begin_on_signal(state.shutdown, state.settings.drain_s):
                yield {"on_connection_lost": state.metrics.connection_lost}  # for the protocol

    return lifespan


def _start_background(
    state: State, redis: RedisTopology, write_counts: Callable[[], Awaitable[None]]
) -> list[asyncio.Task[None]]:
    """Start the background tasks, each with a name."""
    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[None]] = []

    def start(name: str, work: Callable[[], Awaitable[object]], every_s: float) -> None:
        tasks.append(loop.create_task(repeat(work, every_s), name=name))

    start("sweep", state.sweep.sweep, SWEEP_EVERY_S)
    start("counts", write_counts, COUNTS_EVERY_S)
    start("stats-events", partial(publish_stats, state), STATS_EVERY_S)
    if state.worker_files is not None:

        async def write_metrics() -> None:
            publish(state)

        start("metrics", write_metrics, PUBLISH_EVERY_S)
    if state.settings.redis_url.startswith("memory://"):
        start("free-expired", partial(free_expired, redis.commands), FREE_EVERY_S)
    if state.spool is not None:
        drain = partial(state.spool.drain_in_background, state.calls.merge, state.metrics.merged)
        start("spool-drain", drain, DRAIN_EVERY_S)
    if state.resumer is not None:
        start("resumer", state.resumer.try_due, 0.0)
    if state.callbacks is not None:
        start("callback-look", state.callbacks.look, SWEEP_EVERY_S)
        for destination in state.callbacks.destinations:
            start("callbacks", destination.try_due, 0.0)
    if state.archiver is not None:
        start("archiver", state.archiver.archive_changes, ARCHIVE_EVERY_S)
    if redis.sentinels is not None:
        start("sentinels", redis.sentinels.watch, 0.0)
    if (reconciler := state.reconciler) is not None:
        tasks += [loop.create_task(reconciler.work(), name="reconciler") for _ in range(reconciler.workers)]
    if (late_refresh := state.late_refresh) is not None:
        tasks += [loop.create_task(late_refresh.work(), name="late-refresh") for _ in range(WORKERS)]
    return tasks


def _log_start(state: State) -> None:
    if state.settings.is_open:
        log.warning(
            "service.unauthenticated",
            advice="anybody on this machine may do everything but place calls; set VAPI_WEBHOOK_SECRET, API_READ_TOKENS and "
            "API_ADMIN_TOKENS",
        )
    if state.settings.can_place_calls and state.settings.can_fail_over and not state.settings.store_wait_replicas:
        log.warning(
            "service.may_phone_twice",
            advice="a failover of Redis may lose the claim of an Idempotency-Key, and a repeated request then rings "
            "again; set STORE_WAIT_REPLICAS=1, with two replicas or more",
        )
    log.info("service.started", version=__version__, store=state.settings.redis_url.split("://")[0])


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _finish_work(state: State) -> None:
    """Close these parts concurrently. In sequence they would take longer than orchestrators wait."""
    closing = [state.sweep.close(), state.placing.close(), state.batches.close(), state.change_feed.close()]
    if state.resumer is not None:
        closing.append(state.resumer.close())
    if state.archiver is not None:
        closing.append(state.archiver.close())
    if state.callbacks is not None:
        closing.append(state.callbacks.close())
    await asyncio.gather(*closing)


async def _write_last_counts(write_counts: Callable[[], Awaitable[None]]) -> None:
    with suppress(StoreUnavailableError):
        await write_counts()


def _close_parts(at_the_end: AsyncExitStack, state: State, redis: RedisTopology) -> None:
    """Register the parts for closing: the subscription to changes closes first, then the others, then Redis, then Sentinels."""
    if redis.sentinels is not None:
        at_the_end.push_async_callback(redis.sentinels.close)
    at_the_end.push_async_callback(redis.commands.close)
    for part in (state.archive, state.kestra, state.vapi, state.spool, state.changes):
        if part is not None:
            at_the_end.push_async_callback(part.close)


async def repeat(work: Callable[[], Awaitable[object]], every_s: float) -> None:
    """Run ``work`` repeatedly for ever. A failure is logged and does not end the loop."""
    while True:
        started = time.monotonic()
        try:
            await work()
        except StoreUnavailableError:
            log.debug("background.waits_for_redis")
        except Exception:
            log.exception("background.failed")
        await asyncio.sleep(max(0.0, every_s - (time.monotonic() - started)))
