"""Creates the parts of the service from the settings, once per process; optional parts only when configured."""

from __future__ import annotations

import os
import secrets
import socket
from typing import Final

from service import __version__
from service.api.archived_calls import ArchivedCalls
from service.api.auth import CallerTokens
from service.api.client_address import ClientAddresses
from service.api.events.stream import EventStreams
from service.api.limits import CALLERS_BYTES, UNPROVEN_BYTES, BodyBudget, FailedProofs, RefusalLog
from service.api.responses import SharedBodies
from service.api.state import State
from service.api.unfinished import UnfinishedBodies
from service.archive.database import Archive
from service.config import Settings
from service.jobs.archive_backlog import ArchiveBacklog
from service.jobs.archive_batches import ArchiveBatches
from service.jobs.archiver import Archiver
from service.jobs.batches import Batches
from service.jobs.callback_destination import LEASE_MS as CALLBACK_LEASE_MS
from service.jobs.callbacks import Callbacks, origins_of
from service.jobs.change_feed import ChangeFeed
from service.jobs.late_refresh import LateRefresh
from service.jobs.placing import Placing
from service.jobs.reconciler import Reconciler
from service.jobs.resumer import Resumer
from service.jobs.sweep import Sweep
from service.kestra.client import KestraClient
from service.metrics.process import Metrics
from service.metrics.replica import WorkerFiles
from service.redis_client.command import Commands
from service.redis_client.topology import RedisTopology, open_redis
from service.shutdown import Shutdown
from service.store.archive_stream import ArchiveStream
from service.store.batches import BatchStore
from service.store.callback_calls import CallbackCalls
from service.store.calls import CallStore
from service.store.changes import Changes
from service.store.counts import CountStore
from service.store.health import StoreHealth
from service.store.idempotency import IdempotencyStore
from service.store.keys import Keys
from service.store.phone_index import PhoneIndex
from service.store.rate_limit import RateLimit
from service.store.reconcile_leases import ReconcileLeases
from service.store.redis_clock import RedisClock
from service.store.redis_memory import RedisMemory
from service.store.spool import Spool
from service.store.subscription_room import SubscriptionRoom
from service.store.subscriptions import SubscriptionStore
from service.vapi.authentication import WebhookProof
from service.vapi.client import VapiClient

REPLICA_ID_VARIABLE: Final = "SERVICE_REPLICA_ID"
"""See ``replica_id``."""

METRICS_FOLDER_VARIABLE: Final = "SERVICE_METRICS_FOLDER"
"""Set by the process that starts several workers: where each writes its metrics for the others."""


def assemble(settings: Settings) -> tuple[State, RedisTopology]:
    """Create all parts and pass them to each other. They connect to nothing yet; the lifespan opens and closes them."""
    keys = Keys(settings.redis_key_prefix)
    metrics = Metrics()
    redis = open_redis(settings, keys.probes, on_roundtrip=metrics.store_roundtrip.add)
    commands = redis.commands
    vapi = VapiClient(settings) if settings.vapi_api_key else None
    kestra = KestraClient(settings) if settings.kestra_url else None
    room = SubscriptionRoom(settings, commands, keys)
    resumer = None
    if kestra is not None:
        resumer = Resumer(SubscriptionStore(settings, commands, keys, room), kestra, metrics.subscription)
    due = DueQueues(resumer)
    calls = CallStore(settings, commands, keys, on_due=due.wake)
    archive = Archive(settings) if settings.database_url else None
    archived_calls = ArchivedCalls(settings, calls, archive) if archive else None
    due.callbacks = callbacks = _callbacks(settings, commands, keys, room, calls, archived_calls, metrics)
    changes = Changes(redis.connect_subscriber, keys.changes)
    shutdown = Shutdown()
    change_feed = ChangeFeed(changes, calls)
    shutdown.on_begin += [changes.wake_all, change_feed.wake_all]
    if redis.sentinels is not None:
        redis.sentinels.on_new_master.append(changes.leave_server)
    redis_clock = RedisClock()
    sweep = Sweep(calls, changes, redis_clock, metrics.merged)
    addresses = ClientAddresses(settings.forwarded_allow_ips)
    failed_proofs, refusals = FailedProofs(addresses), RefusalLog(addresses)
    spool = Spool(settings.spool_dir, settings.spool_max_bytes) if settings.spool_dir else None
    idempotency = IdempotencyStore(commands, keys)
    leases = ReconcileLeases(settings, commands, keys)
    reconciler = _reconciler(settings, vapi, calls, sweep, redis_clock, metrics, leases)
    archive_stream = _archive_stream(settings, commands, keys)
    state = State(
        settings=settings,
        calls=calls,
        phone_index=PhoneIndex(settings, commands, keys),
        changes=changes,
        change_feed=change_feed,
        shutdown=shutdown,
        sweep=sweep,
        redis_clock=redis_clock,
        counts=CountStore(commands, keys, replica_id=replica_id(), process_id=os.getpid(), version=__version__),
        store_health=StoreHealth(commands, keys),
        rate_limit=_rate_limit(settings, commands, keys),
        spool=spool,
        vapi=vapi,
        reconciler=reconciler,
        late_refresh=_late_refresh(reconciler, calls, sweep, metrics, leases),
        archive=archive,
        archived_calls=archived_calls,
        archive_stream=archive_stream,
        archiver=_archiver(settings, archive, archive_stream, calls, commands, metrics),
        kestra=kestra,
        resumer=resumer,
        callbacks=callbacks,
        placing=Placing(
            settings, vapi, kestra, calls, idempotency,
            spool=spool, on_merged=metrics.merged, on_result=metrics.call_placed,
        ),
        batches=Batches(BatchStore(commands, keys), lambda: shutdown.has_begun),
        metrics=metrics,
        worker_files=WorkerFiles(folder) if (folder := os.environ.get(METRICS_FOLDER_VARIABLE)) else None,
        proof=WebhookProof(settings),
        tokens=CallerTokens(settings, failed_proofs, refusals, on_failure=metrics.auth_failed),
        addresses=addresses,
        failed_proofs=failed_proofs,
        refusals=refusals,
        bodies=BodyBudget(settings.max_body_bytes),
        unproven_bodies=UnfinishedBodies(max(UNPROVEN_BYTES, 2 * settings.max_body_bytes)),
        callers_bodies=UnfinishedBodies(CALLERS_BYTES),
        large_bodies=SharedBodies(),
        streams=EventStreams(metrics),
    )  # fmt: skip
    return state, redis


def _archive_stream(settings: Settings, commands: Commands, keys: Keys) -> ArchiveStream | None:
    """None without ``DATABASE_URL``."""
    consumer = f"{replica_id()}:{os.getpid()}"
    return ArchiveStream(commands, keys, consumer=consumer.encode()) if settings.database_url else None


class DueQueues:
    """Passes on in which queue something is due. The callbacks are made last, as they read calls."""

    def __init__(self, executions: Resumer | None) -> None:
        self._executions = executions
        self.callbacks: Callbacks | None = None

    def wake(self, bucket: int, queue: bytes) -> None:
        if queue and self.callbacks is not None:
            self.callbacks.wake(bucket, queue)
        elif not queue and self._executions is not None:
            self._executions.wake(bucket)


def _callbacks(
    settings: Settings,
    commands: Commands,
    keys: Keys,
    room: SubscriptionRoom,
    calls: CallStore,
    archived_calls: ArchivedCalls | None,
    metrics: Metrics,
) -> Callbacks | None:
    """None without ``CALLBACK_ALLOWED_PREFIXES``."""
    if not settings.has_callbacks:
        return None
    tags = list(origins_of(settings))
    stores = {
        tag: SubscriptionStore(settings, commands, keys, room, callbacks_to=tag, lease_ms=CALLBACK_LEASE_MS)
        for tag in tags
    }
    looks = CallbackCalls(settings, commands, keys, tags)
    find_archived = archived_calls.complete if archived_calls else None
    return Callbacks(settings, calls, looks, stores, metrics.callback, find_archived)


def _rate_limit(settings: Settings, commands: Commands, keys: Keys) -> RateLimit | None:
    """None while ``RATE_LIMIT_PER_MINUTE`` is 0."""
    per_minute = settings.rate_limit_per_minute
    return RateLimit(commands, keys, per_minute, store_timeout_s=settings.store_timeout_s) if per_minute else None


def _reconciler(
    settings: Settings,
    vapi: VapiClient | None,
    calls: CallStore,
    sweep: Sweep,
    redis_clock: RedisClock,
    metrics: Metrics,
    leases: ReconcileLeases,
) -> Reconciler | None:
    """None without ``VAPI_API_KEY``, because reconciling asks VAPI."""
    if vapi is None:
        return None
    reconciler = Reconciler(
        settings, vapi, calls, leases, redis_clock.now_ms, on_merged=metrics.merged, on_result=metrics.reconciled
    )
    sweep.on_subscribed = reconciler.schedule
    return reconciler


def _late_refresh(
    reconciler: Reconciler | None, calls: CallStore, sweep: Sweep, metrics: Metrics, leases: ReconcileLeases
) -> LateRefresh | None:
    """None without a reconciler, which it uses to ask VAPI."""
    if reconciler is None:
        return None
    late_refresh = LateRefresh(reconciler, calls, leases, on_result=metrics.refreshed)
    sweep.on_refreshable = late_refresh.schedule
    return late_refresh


def _archiver(
    settings: Settings,
    archive: Archive | None,
    stream: ArchiveStream | None,
    calls: CallStore,
    commands: Commands,
    metrics: Metrics,
) -> Archiver | None:
    """None without ``DATABASE_URL``."""
    if archive is None or stream is None:
        return None
    memory = RedisMemory(settings, commands, consequence="only a day bounds what waits for the archive")
    backlog = ArchiveBacklog(stream, memory, metrics.archive_given_up)
    batches = ArchiveBatches(
        archive, stream, calls, on_written=metrics.archive_written, on_set_aside=metrics.archive_set_aside
    )
    return Archiver(archive, stream, batches, backlog, retention_days=settings.archive_retention_days)


def replica_id() -> str:
    """One id for all processes of this replica: the first that asks makes it, and its workers inherit it."""
    return os.environ.setdefault(REPLICA_ID_VARIABLE, f"{socket.gethostname()}-{secrets.token_hex(3)}")
