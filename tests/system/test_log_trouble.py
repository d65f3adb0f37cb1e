"""A log that cannot be written harms nobody: webhooks are taken, the spool works, the process ends when told to."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from tests.support.eventually import PATIENCE_S, eventually
from tests.support.redis_server import free_port
from tests.support.replica import ROOT
from tests.support.routes import WEBHOOK
from tests.support.service_api import metric
from tests.support.service_outputs import Outputs, full_disk, serves, service, small_pipe
from tests.support.traffic import ask_despite_late_disk, ask_until_served, open_client
from tests.support.vapi_sender import status_update

GENEROUS_S: Final = PATIENCE_S
MANY: Final = 100
"""Webhooks, each with a line of 300 bytes: seven times what a pipe of 4 KiB holds."""


def reader_gone() -> Outputs:
    reading, writing = small_pipe()
    os.close(reading)
    return Outputs(writing, writing, [])


def reader_asleep() -> Outputs:
    reading, writing = small_pipe()
    return Outputs(writing, writing, [reading])


def reader_asleep_and_never_blocking() -> Outputs:
    outputs = reader_asleep()
    os.set_blocking(outputs.stdout, False)
    return outputs


TROUBLES: Final = [full_disk, reader_gone, reader_asleep, reader_asleep_and_never_blocking]


async def take(client: httpx2.AsyncClient, number: int) -> int:
    """Post a webhook; the status of its answer."""
    body = status_update("queued", f"call-{number}")
    return (await ask_until_served(partial(client.post, WEBHOOK, json=body))).status_code


async def lines_lost(client: httpx2.AsyncClient) -> float:
    return await metric(client, "vapi_log_lines_lost_total")


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize("trouble", TROUBLES)
async def test_webhooks_are_taken_and_the_lost_lines_counted(trouble: Callable[[], Outputs], log_format: str) -> None:
    with service(trouble(), log_format=log_format, log_level="debug") as (url, process):
        await serves(url)
        async with open_client(base_url=url, timeout=GENEROUS_S) as client:
            statuses = {await take(client, i) for i in range(MANY)}
            bad = (await client.post(WEBHOOK, content=b"no json")).status_code
            assert (statuses, bad) == ({200}, 400)
            if trouble in (full_disk, reader_gone):

                async def all_are_counted() -> bool:
                    return await lines_lost(client) >= MANY

                await eventually(all_are_counted, within_s=GENEROUS_S)
        process.send_signal(signal.SIGTERM)
        assert process.wait(GENEROUS_S) == 0


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_the_spool_still_takes_what_redis_cannot(trouble: Callable[[], Outputs], tmp_path: Path) -> None:
    settings = {"redis_url": "redis://127.0.0.1:1", "spool_dir": tmp_path, "log_format": "json"}
    with service(trouble(), **settings) as (url, process):
        await serves(url)
        async with open_client(base_url=url, timeout=GENEROUS_S) as client:

            async def spool(number: int) -> int:
                ask = partial(client.post, WEBHOOK, json=status_update("queued", f"call-{number}"))
                return (await ask_despite_late_disk(ask))[-1].status_code

            assert await asyncio.gather(*map(spool, range(40))) == [200] * 40
            assert (await ask_until_served(partial(client.get, "/health/ready"))).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(GENEROUS_S) == 0


async def test_a_reader_that_wakes_up_gets_whole_lines_and_the_rest_is_counted() -> None:
    outputs = reader_asleep()
    [reading] = outputs.kept
    with service(outputs, log_format="json") as (url, process):
        await serves(url)
        async with open_client(base_url=url, timeout=GENEROUS_S) as client:
            for i in range(MANY):
                assert await take(client, i) == 200
            text = b""
            while f"call-{MANY - 1}".encode() not in text:
                text += os.read(reading, 65_536)
            assert await lines_lost(client) == 0
        process.send_signal(signal.SIGTERM)
        while b"service.stopped" not in text:
            text += os.read(reading, 65_536)
        assert process.wait(GENEROUS_S) == 0
    events: list[Any] = [json.loads(line) for line in text.decode().splitlines()]
    stored = [event["call_id"] for event in events if event.get("result") == "stored"]
    assert stored == [f"call-{i}" for i in range(MANY)]


def without_output(port: int) -> subprocess.Popen[bytes]:
    """The service with standard output and error closed."""
    command = f"exec {sys.executable} -m service >&- 2>&-"
    environment = {"PATH": os.environ["PATH"], "PORT": str(port), "DRAIN_S": "0"}
    return subprocess.Popen(["/bin/sh", "-c", command], cwd=ROOT, env=environment)


async def test_the_service_starts_and_ends_without_any_output_at_all() -> None:
    port = free_port()
    process = without_output(port)
    try:
        url = f"http://127.0.0.1:{port}"
        await serves(url)
        async with open_client(base_url=url, timeout=GENEROUS_S) as client:
            assert await take(client, 1) == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(GENEROUS_S) == 0
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
