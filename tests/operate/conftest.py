"""Replicas that a real Prometheus watches, with a client and traffic that goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import pytest

from tests.support.prometheus_server import PrometheusServer, Watch
from tests.support.replica import Replica
from tests.support.traffic import open_client


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with open_client() as client:
        yield client


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    """Starts a Prometheus for the replicas given."""
    started: list[PrometheusServer] = []

    def start(*replicas: Replica, token: str | None = None) -> PrometheusServer:
        folder = tmp_path / f"prometheus-{len(started)}"
        folder.mkdir()
        started.append(PrometheusServer(folder, list(replicas), token=token))
        return started[-1].start()

    yield start
    for prometheus in started:
        prometheus.stop()
