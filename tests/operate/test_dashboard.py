"""The Grafana dashboard: each of its queries is run on a real Prometheus and returns data."""

from __future__ import annotations

import asyncio
import json
import math
import re
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from service.metrics.declared import COUNTERS, GAUGES, HISTOGRAMS
from tests.support.callback_receiver import SECRET as CALLBACK_SECRET
from tests.support.event_streams import events_of
from tests.support.eventually import eventually
from tests.support.fake_vapi import FakeVapi
from tests.support.going_on import going_on
from tests.support.postgres_server import PostgresProcess
from tests.support.prometheus_server import RULES, PrometheusServer, Watch
from tests.support.redis_server import RedisProcess
from tests.support.replica import ROOT, Replica
from tests.support.traffic import get_call, post_webhook
from tests.support.vapi_sender import full_report, status_update

DASHBOARD: Final = ROOT / "deploy" / "grafana" / "dashboards" / "vapi-cache.json"

FILLED_IN: Final = {"$__rate_interval": "5s", "$__range": "60s", "$instance": ".*"}
"""What Grafana puts in the place of its variables."""


def dashboard() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return content


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> Iterator[tuple[str, str]]:
    """The title of each panel with each of its queries, as Grafana would send it."""
    for panel in panels():
        for target in panel["targets"]:
            expression: str = target["expr"]
            for variable, value in FILLED_IN.items():
                expression = expression.replace(variable, value)
            assert "$" not in expression, expression
            yield panel["title"], expression


def has_data(prometheus: PrometheusServer, expression: str) -> bool:
    return any(not math.isnan(value) for value in prometheus.values(expression))


@pytest.fixture
async def vapi() -> AsyncIterator[FakeVapi]:
    async with FakeVapi() as vapi:
        yield vapi


async def test_every_query_returns_data(
    client: httpx2.AsyncClient,
    redis_process: RedisProcess,
    start_replica: Callable[..., Replica],
    watch: Watch,
    vapi: FakeVapi,
    postgres_process: PostgresProcess,
    database: str,
    tmp_path: Path,
) -> None:
    replica = start_replica(
        redis_url=redis_process.url,
        redis_key_prefix="dashboard",
        spool_dir=tmp_path / "spool",
        database_url=postgres_process.url_of(database),
        callback_allowed_prefixes="http://127.0.0.1:9",
        callback_secret=CALLBACK_SECRET,
        **vapi.settings,
    )
    prometheus = watch(replica)

    async def live(number: int) -> None:
        """A little of everything."""
        call_id = f"call-{number}"
        poll = asyncio.create_task(get_call(client, replica, call_id, wait="20"))
        stream = asyncio.create_task(client.get(replica.url + events_of(call_id)))
        await post_webhook(client, replica, status_update("in-progress", call_id))
        await get_call(client, replica, call_id)
        await get_call(client, replica, str(uuid.uuid4()))
        reason = "pipeline-no-available-llm-model" if number % 2 else "assistant-ended-call"
        await post_webhook(client, replica, full_report(call_id, endedReason=reason))
        await asyncio.gather(poll, stream)

    missing = dict.fromkeys(queries())

    def is_all_there() -> bool:
        for title, expression in [*missing]:
            if has_data(prometheus, expression):
                del missing[title, expression]
        return not missing

    async with going_on(live):
        try:
            await eventually(is_all_there)
        except TimeoutError:
            raise AssertionError(f"no data: {[*missing]}") from None


def test_every_metric_is_in_the_dashboard_or_in_an_alert() -> None:
    shown = DASHBOARD.read_text() + RULES.read_text()
    counters = [f"{counter.name}_total" for counter in COUNTERS]
    names = [*counters, *(gauge.name for gauge in GAUGES), *(histogram.name for histogram in HISTOGRAMS)]
    assert [name for name in names if name not in shown] == []


def test_only_metrics_that_there_are_are_asked_for() -> None:
    asked = set(re.findall(r"\b(?:vapi|http|process)_[a-z_]+", DASHBOARD.read_text() + RULES.read_text()))
    there = {f"{counter.name}_total" for counter in COUNTERS} | {gauge.name for gauge in GAUGES}
    there |= {f"{one.name}{suffix}" for one in HISTOGRAMS for suffix in ("_bucket", "_sum", "_count")}
    there |= {"process_resident_memory_bytes", "process_open_fds", "process_max_fds", "process_start_time_seconds"}
    assert asked <= there, asked - there


def test_the_panels_have_ids_of_their_own_titles_and_words_and_do_not_overlap() -> None:
    every = dashboard()["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    assert all(panel["title"] and panel["description"] for panel in panels())
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in every)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) == 23


def test_the_dashboard_works_with_any_prometheus() -> None:
    sources = re.findall(r'"uid": "(.*?)"', DASHBOARD.read_text())
    assert set(sources) == {"${datasource}", "vapi-cache"}
