"""The original design's shell loop still gets its record, as long as a shell's echo leaves JSON alone."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from typing import Any

import httpx2
import pytest

from tests.support.access_log import answers_of
from tests.support.eventually import PATIENCE_S
from tests.support.replica import ROOT, Replica
from tests.support.traffic import post_until_taken
from tests.support.vapi_sender import sample, status_update

ORIGINAL = """
CALL_ID="{{ outputs.call_provider_script.vars.callId }}"
MAX_ATTEMPTS=60

for i in $(seq 1 $MAX_ATTEMPTS); do
  RESULT=$(curl -s http://api:8000/api/v1/vapi/calls/$CALL_ID)
  STATUS=$(echo $RESULT | jq -r '.data.status // empty')

  if [ "$STATUS" = "ended" ]; then
    echo $RESULT
    exit 0
  fi

  echo "Attempt $i/$MAX_ATTEMPTS: Status=$STATUS"
  sleep 5
done

echo "Timeout waiting for call completion"
exit 1
"""
"""Option 2 of the design that this project was created from, word by word."""

PORTABLE = ORIGINAL.replace("calls/$CALL_ID", "calls/$CALL_ID?view=summary").replace(
    "echo $RESULT", "printf '%s' \"$RESULT\""
)


async def run_loop(shell: str, script: str, replica: Replica, call_id: str) -> asyncio.subprocess.Process:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = script.replace("{{ outputs.call_provider_script.vars.callId }}", call_id)
    script = script.replace("http://api:8000", replica.url)
    return await asyncio.create_subprocess_exec(shell, "-c", script, stdout=asyncio.subprocess.PIPE)


async def outcome_of(loop: asyncio.subprocess.Process) -> tuple[int | None, list[str], dict[str, Any]]:
    """Exit status, the lines before the last, and the last line as JSON."""
    async with asyncio.timeout(PATIENCE_S):
        printed, _ = await loop.communicate()
    *attempts, last = printed.decode().strip().splitlines()
    return loop.returncode, attempts, json.loads(last)


@pytest.mark.parametrize(("shell", "script"), [("bash", ORIGINAL), ("bash", PORTABLE), ("dash", PORTABLE)])
async def test_the_loop_ends_with_the_record_of_a_call_that_is_over(
    client: httpx2.AsyncClient, pair: tuple[Replica, Replica], shell: str, script: str
) -> None:
    call_id = f"loop-{shell}-{script is ORIGINAL}"
    await post_until_taken(client, pair[0], sample("outbound-end-of-call-report-full", call_id))
    status, attempts, answer = await outcome_of(await run_loop(shell, script, pair[1], call_id))
    assert (status, attempts) == (0, [])
    assert answer["data"]["call_id"] == call_id
    assert answer["data"]["data_status"] == "complete"


async def test_the_original_loop_goes_on_while_the_call_runs(
    client: httpx2.AsyncClient, pair: tuple[Replica, Replica]
) -> None:
    await post_until_taken(client, pair[0], status_update("ringing", "loop-running"))
    loop = await run_loop("bash", ORIGINAL, pair[1], "loop-running")
    assert loop.stdout is not None
    first = await loop.stdout.readline()
    await post_until_taken(client, pair[0], sample("outbound-end-of-call-report-full", "loop-running"))
    status, _, answer = await outcome_of(loop)
    assert first == b"Attempt 1/60: Status=ringing\n"
    assert (status, answer["data"]["status"]) == (0, "ended")


async def run_shipped(shell: str, replica: Replica, call_id: str, **more: str) -> tuple[int | None, list[str]]:
    """Exit status and printed lines of the loop that we ship."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    wanted = {"CALL_ID": call_id, "SERVICE_URL": replica.url, "TOKEN": "a-token", "INTERVAL_S": "0.2", **more}
    loop = await asyncio.create_subprocess_exec(
        shell, str(ROOT / "deploy" / "kestra" / "shell_loop.sh"), stdout=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], **wanted},
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE_S):
        printed, _ = await loop.communicate()
    return loop.returncode, printed.decode().splitlines()


@pytest.mark.parametrize("shell", ["bash", "dash"])
async def test_the_shipped_loop_waits_for_the_report_and_prints_kestra_outputs(
    client: httpx2.AsyncClient, pair: tuple[Replica, Replica], shell: str
) -> None:
    call_id = f"shipped-{shell}"
    await post_until_taken(client, pair[0], status_update("ended", call_id))
    waiting = asyncio.create_task(run_shipped(shell, pair[1], call_id))
    await answers_of(pair[1], 1, lambda answer: answer.get("call_id") == call_id)
    await post_until_taken(client, pair[0], sample("outbound-end-of-call-report-full", call_id))
    status, (*attempts, last) = await waiting
    assert (status, {line.split(": ")[1] for line in attempts}) == (0, {"partial"})
    assert (last[:2], last[-2:]) == ("::", "::")
    assert json.loads(last[2:-2])["outputs"]["call_result"]["data_status"] == "complete"


async def test_the_shipped_loop_gives_up(pair: tuple[Replica, Replica]) -> None:
    status, lines = await run_shipped("sh", pair[0], "nobodys", MAX_ATTEMPTS="2")
    assert (status, lines) == (1, ["Attempt 1/2: Call result not found", "Attempt 2/2: Call result not found"])
