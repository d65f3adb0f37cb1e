"""What goes to Redis for the stats of all replicas: the same counts as Prometheus's, under the names of the stats."""

from __future__ import annotations

from service.metrics.declared import WAKE_SUMS
from service.metrics.process import Metrics


def test_what_did_not_happen_is_not_written() -> None:
    assert Metrics().sums() == {}


def test_the_stats_get_their_counts_by_their_own_names() -> None:
    metrics = Metrics()
    metrics.webhook("status-update", "stored")
    metrics.webhook("no-such-type", "stored")
    metrics.webhook_undecoded("unauthorized")
    metrics.webhook_acknowledged()
    metrics.call_placed("vapi", "unknown")
    metrics.subscription("dropped")
    metrics.refreshed("merged")
    metrics.store_error()
    metrics.connection_lost("idle")
    metrics.fields_dropped(3)
    metrics.wake_latency.add(0.0001)
    metrics.wake_latency.add(99)
    assert metrics.sums() == {
        "webhooks.received": 3,
        "webhooks.stored": 2,
        "webhooks.unauthorized": 1,
        "webhooks.acknowledged": 1,
        "placed.unknown": 1,
        "subscriptions.dropped": 1,
        "refreshed.merged": 1,
        "store.errors": 1,
        "connections.idle": 1,
        "fields.dropped": 3,
        WAKE_SUMS[0]: 1,
        WAKE_SUMS[-1]: 1,
    }


def test_reasons_that_are_no_labels_share_one() -> None:
    metrics = Metrics()
    metrics.auth_failed("a reason that nobody declared")
    series = metrics.snapshot({}).counters
    assert series["vapi_auth_failures", "other"] == 1
