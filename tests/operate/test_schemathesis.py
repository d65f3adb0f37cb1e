"""schemathesis reads the OpenAPI document and finds no request whose answer is not as the document says."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.support.callback_receiver import SECRET as CALLBACK_SECRET
from tests.support.fake_kestra import FakeKestra
from tests.support.fake_vapi import FakeVapi
from tests.support.redis_server import RedisProcess
from tests.support.replica import ROOT, Replica
from tests.support.service_api import ADMIN_TOKEN, CREDENTIALS, READ_TOKEN, SECRET, connected

CONFIGURATION = Path(__file__).parent / "schemathesis.toml"
LIMIT_S = 900.0
"""It takes one to two minutes on two cores that nobody else uses."""


def run_schemathesis(replica: Replica) -> subprocess.CompletedProcess[str]:
    secrets = {"READ_TOKEN": READ_TOKEN, "ADMIN_TOKEN": ADMIN_TOKEN, "WEBHOOK_SECRET": SECRET}
    command = [sys.executable, "-m", "schemathesis.cli", "--no-color", "--config-file", str(CONFIGURATION)]
    return subprocess.run(
        [*command, "run", replica.url + "/openapi.json"],
        cwd=ROOT, env={**os.environ, **secrets, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip


async def test_schemathesis_finds_nothing(start_replica: Callable[..., Replica], redis_process: RedisProcess) -> None:
    async with FakeVapi() as vapi, FakeKestra("v2") as kestra:
        replica = start_replica(
            redis_url=redis_process.url, redis_key_prefix="schemathesis", kestra_url=kestra.url, max_wait_s=0.2,
            callback_allowed_prefixes="http://127.0.0.1:9", callback_secret=CALLBACK_SECRET, **CREDENTIALS, **vapi.settings,
        )  # fmt: skip
        result = await asyncio.to_thread(run_schemathesis, replica)
        assert result.returncode == 0, result.stdout[-20_000:] + result.stderr[-5_000:]
        async with connected(replica) as client:
            paths = (await client.get("/openapi.json")).json()["paths"]
        # It leaves out the operation that serves the document, which tests/api/test_openapi.py asks for.
        count = sum(len(methods) for path, methods in paths.items() if path != "/openapi.json")
        assert re.findall(r"(?:Tested|Selected): +(.*)", result.stdout) == [f"{count}/{count}", f"{count}"]
        assert '"request.failed"' not in replica.log
