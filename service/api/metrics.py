"""``GET /metrics``: the metrics of all workers of the replica, with what other parts of the service know."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Iterator

from starlette.requests import Request
from starlette.responses import Response

from service import __version__
from service.api.state import State
from service.metrics.exposition import CONTENT_TYPE, render_text
from service.metrics.process import Series, Snapshot
from service.metrics.replica import added_up


async def get_metrics(state: State, _: Request) -> Response:
    own = publish(state)
    # In a thread: with 20,000 polls parked, counting the open descriptors takes milliseconds.
    text = await asyncio.to_thread(_render, state, own)
    return Response(text, media_type=CONTENT_TYPE)


def publish(state: State) -> Snapshot:
    """The metrics of this worker now. The other workers of the replica can read them too."""
    own = state.metrics.snapshot(dict(_gauges_of(state)))
    if state.worker_files is not None:
        state.worker_files.write(own)
    return own


def _render(state: State, own: Snapshot) -> bytes:
    others = state.worker_files.read_others() if state.worker_files is not None else ()
    return render_text(*added_up([own, *others]))


def _gauges_of(state: State) -> Iterator[tuple[Series, float]]:
    yield ("vapi_build_info", __version__, platform.python_version()), 1
    yield ("vapi_notifications_subscribed",), float(state.changes.is_subscribed)
    yield ("vapi_store_buckets_missing",), len(state.sweep.missing_buckets)
    if (standing := state.sweep.find_standing()) is not None:
        yield ("vapi_records",), standing.records
        yield ("vapi_calls_running",), standing.running
        yield ("vapi_longest_silence_seconds",), standing.longest_silence_s
        yield ("vapi_subscribed_calls",), standing.subscribed_calls
        yield ("vapi_subscriptions_due",), standing.due_subscriptions
    if state.archiver is not None:
        yield ("vapi_archive_up",), float(state.archiver.problem is None)
        yield ("vapi_archive_backlog",), state.archiver.backlog.changes
        yield ("vapi_archive_backlog_age_seconds",), state.archiver.backlog.age_s
    if state.callbacks is not None:
        standing_callbacks = state.callbacks.standing
        yield ("vapi_callback_calls",), standing_callbacks.calls
        yield ("vapi_callbacks_due",), sum(standing_callbacks.due.values())
    if state.spool is not None:
        held = state.spool.held
        yield ("vapi_spool_entries", "waiting"), held.waiting
        yield ("vapi_spool_entries", "set_aside"), held.rejected
        yield ("vapi_spool_bytes",), held.bytes
        yield ("vapi_spool_max_bytes",), state.settings.spool_max_bytes
