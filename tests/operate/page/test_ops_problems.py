"""What the page says is wrong, for each thing that can be: the page's own function, in the browser, on what it would read."""

from __future__ import annotations

import copy
from typing import Any, Final

from playwright.async_api import Browser

from tests.support.ops_page import ops_page
from tests.support.replica import Replica

NOW: Final = 1_790_000_000_000
ALL_WELL: Final[dict[str, Any]] = {
    "now": NOW,
    "awaySince": None,
    "awayReason": "",
    "statsError": None,
    "health": {
        "draining": False,
        "dependencies": {
            "redis": {"status": "ok", "problem": None},
            "notifications": {"status": "ok"},
            "spool": {"status": "ok"},
            "kestra": {"status": "ok", "problem": None},
        },
    },
    "stats": {
        "size": 1,
        "entries": [{"dataStatus": "complete", "retry": None, "timestamp": NOW, "overAt": NOW, "endedReason": "x"}],
        "webhooks": {"failed": 1, "unauthorized": 1, "invalid": 1},
        "calls": {"ended": 5, "completion_rate": 0.8},
        "placed": {"unknown": 0, "failed": 0},
        "subscriptions": {"due": 3, "dropped": 0, "retried": 0},
        "callbacks": {"due": 3, "dropped": 0, "retried": 0},
        "archive": {"set_aside": 2, "given_up": 2},
        "reconciled": {"failed": 0},
        "replicas": [{"id": "a", "version": "1", "last_seen": "2026-09-21T14:13:19Z", "spool": None}],
        "store": {"writable": True, "latency_ms": 1.0, "spool": None},
    },
}

SPOOL: Final = {"waiting": 1, "rejected": 0, "bytes": 9}
AWAY: Final = {"status": "down", "problem": "no answer in time", "backlog": 3, "backlog_age_s": 90.0}
AN_HOUR_AGO: Final = NOW - 3_700_000

CASES: Final[list[tuple[dict[str, Any], list[tuple[str, str]]]]] = [
    ({}, []),
    ({"awaySince": NOW - 5000, "awayReason": "no connection"}, [("bad", "The service does not answer")]),
    ({"health.dependencies.redis.status": "down"}, [("bad", "Redis takes no webhooks")]),
    ({"health.dependencies.redis": {"status": "degraded", "masters": {"m:1": {"status": "down", "problem": "full"}}}},
     [("bad", "A part of Redis takes no webhooks")]),
    ({"health.dependencies.notifications.status": "down"}, [("warn", "Redis sends no notifications")]),
    ({"health.dependencies.spool.status": "down"}, [("bad", "The spool has no room")]),
    ({"health.dependencies.kestra.status": "down"}, [("warn", "Kestra does not answer")]),
    ({"health.dependencies.archive": AWAY}, [("warn", "Calls do not come into the archive")]),
    ({"health.dependencies.archive": AWAY | {"problem": None}}, [("warn", "Calls do not come into the archive")]),
    ({"health.draining": True}, [("note", "The replica that answers is stopping")]),
    ({"stats": None, "statsError": "Internal server error"}, [("bad", "The stats cannot be read")]),
    ({"stats.store.latency_ms": 300.0}, [("warn", "Redis is slow")]),
    ({"stats.missing_buckets": [3, 4]}, [("bad", "Some calls are not shown")]),
    ({"stats.replicas.0.spool": SPOOL}, [("note", "Webhooks wait in the spool")]),
    ({"stats.replicas.0.spool": SPOOL | {"waiting": 0, "rejected": 2}}, [("warn", "Spooled webhooks were set aside")]),
    ({"stats.replicas": None, "stats.store.spool": SPOOL}, [("note", "Webhooks wait in the spool")]),
    ({"stats.replicas.0.last_seen": "2026-09-21T14:12:40Z"}, [("warn", "Replica a is silent")]),
    ({"stats.replicas.0.last_seen": "2026-09-21T13:12:40Z"}, []),
    ({"stats.entries.0.dataStatus": "fetch_failed"}, [("warn", "Reports did not come")]),
    ({"stats.entries.0.dataStatus": "partial", "stats.entries.0.overAt": NOW - 50_000}, [("note", "Reports are late")]),
    ({"stats.entries.0.dataStatus": "pending", "stats.entries.0.timestamp": AN_HOUR_AGO}, [("warn", "Calls are stuck")]),
    ({"stats.entries.0.retry": "fix"}, [("warn", "Calls fail until somebody acts")]),
    ({"stats.calls.ended": 50}, [("warn", "Many calls have no full report")]),
    ({"stats.webhooks.failed": 4}, [("bad", "Webhooks were refused")]),
    ({"stats.webhooks.unauthorized": 4}, [("warn", "Webhooks lack a valid proof")]),
    ({"stats.webhooks.invalid": 4}, [("note", "Webhooks are not understood")]),
    ({"stats.placed.unknown": 1}, [("bad", "Nobody knows whether a call was placed")]),
    ({"stats.placed.failed": 1}, [("warn", "Calls were not placed")]),
    ({"stats.subscriptions.dropped": 1}, [("bad", "Executions were not resumed")]),
    ({"stats.subscriptions.retried": 1}, [("warn", "Executions wait to be resumed")]),
    ({"stats.callbacks.dropped": 1}, [("bad", "Callbacks were not delivered")]),
    ({"stats.callbacks.retried": 1}, [("warn", "Callbacks wait to be delivered")]),
    ({"stats.archive.set_aside": 3}, [("bad", "Calls are missing in the archive")]),
    ({"stats.archive.given_up": 5}, [("bad", "Calls are missing in the archive")]),
    ({"stats.reconciled.failed": 1}, [("warn", "VAPI does not answer")]),
    ({"stats.webhooks.unauthorized": 4, "health.dependencies.redis.status": "down", "health.draining": True},
     [("bad", "Redis takes no webhooks"), ("warn", "Webhooks lack a valid proof"),
      ("note", "The replica that answers is stopping")]),
]  # fmt: skip


def read_with(changes: dict[str, Any]) -> dict[str, Any]:
    """What was read, with values at some paths changed, and the unchanged stats as those of a minute ago."""
    read = copy.deepcopy(ALL_WELL)
    for path, value in changes.items():
        *folders, name = path.split(".")
        at: Any = read
        for folder in folders:
            at = at[int(folder)] if isinstance(at, list) else at[folder]
        at[name] = value
    return read | {"before": ALL_WELL["stats"]}


async def test_each_thing_that_is_wrong_is_said_and_the_worst_comes_first(browser: Browser, replica: Replica) -> None:
    failed = []
    async with ops_page(browser, replica.url) as tab:
        for changes, expected in CASES:
            found = await tab.page.evaluate(
                "async (read) => (await import('/ops/ops_problems.js')).findProblems(read)", read_with(changes)
            )
            if [(one["level"], one["title"]) for one in found] != expected:
                failed.append((changes, found))
            for one in found:
                assert not {"undefined", "null", "NaN"} & set(one["text"].replace(".", " ").split()), one
    assert failed == []
