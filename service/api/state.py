"""Everything a request handler uses. assembly.py creates it once per process and passes it on; it is not global."""

from __future__ import annotations

from dataclasses import dataclass

from service.api.archived_calls import ArchivedCalls
from service.api.auth import CallerTokens
from service.api.client_address import ClientAddresses
from service.api.events.stream import EventStreams
from service.api.limits import BodyBudget, FailedProofs, RefusalLog
from service.api.responses import SharedBodies
from service.api.unfinished import UnfinishedBodies
from service.archive.database import Archive
from service.config import Settings
from service.jobs.archiver import Archiver
from service.jobs.batches import Batches
from service.jobs.callbacks import Callbacks
from service.jobs.change_feed import ChangeFeed
from service.jobs.late_refresh import LateRefresh
from service.jobs.placing import Placing
from service.jobs.reconciler import Reconciler
from service.jobs.resumer import Resumer
from service.jobs.sweep import Sweep
from service.kestra.client import KestraClient
from service.metrics.process import Metrics
from service.metrics.replica import WorkerFiles
from service.shutdown import Shutdown
from service.store.archive_stream import ArchiveStream
from service.store.calls import CallStore
from service.store.changes import Changes
from service.store.counts import CountStore
from service.store.health import StoreHealth
from service.store.phone_index import PhoneIndex
from service.store.rate_limit import RateLimit
from service.store.redis_clock import RedisClock
from service.store.spool import Spool
from service.vapi.authentication import WebhookProof
from service.vapi.client import VapiClient


@dataclass(frozen=True, slots=True)
class State:
    settings: Settings
    calls: CallStore
    phone_index: PhoneIndex
    changes: Changes
    change_feed: ChangeFeed
    shutdown: Shutdown
    sweep: Sweep
    redis_clock: RedisClock
    counts: CountStore
    store_health: StoreHealth
    rate_limit: RateLimit | None
    """None while ``RATE_LIMIT_PER_MINUTE`` is 0."""
    spool: Spool | None
    """None without ``SPOOL_DIR``."""
    vapi: VapiClient | None
    """None without ``VAPI_API_KEY``."""
    reconciler: Reconciler | None
    """None without ``VAPI_API_KEY``."""
    late_refresh: LateRefresh | None
    """None without ``VAPI_API_KEY``."""
    archive: Archive | None
    """None without ``DATABASE_URL``."""
    archived_calls: ArchivedCalls | None
    """None without ``DATABASE_URL``."""
    archive_stream: ArchiveStream | None
    """None without ``DATABASE_URL``."""
    archiver: Archiver | None
    """None without ``DATABASE_URL``."""
    kestra: KestraClient | None
    """None without ``KESTRA_URL``."""
    resumer: Resumer | None
    """None without ``KESTRA_URL``."""
    callbacks: Callbacks | None
    """None without ``CALLBACK_ALLOWED_PREFIXES``."""
    placing: Placing
    batches: Batches
    metrics: Metrics
    worker_files: WorkerFiles | None
    """The metrics of the other workers; None where there is only one."""
    proof: WebhookProof
    tokens: CallerTokens
    addresses: ClientAddresses
    failed_proofs: FailedProofs
    refusals: RefusalLog
    bodies: BodyBudget
    """Budget for the bodies of proven webhooks."""
    unproven_bodies: UnfinishedBodies
    """Bodies of webhooks whose signature is not checked yet."""
    callers_bodies: UnfinishedBodies
    """Unfinished bodies of all other routes."""
    large_bodies: SharedBodies
    """Large answers that are being sent."""
    streams: EventStreams
