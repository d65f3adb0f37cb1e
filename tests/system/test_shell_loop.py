"""The original design's shell loop still gets its record, as long as a shell's echo leaves JSON alone."""

from __future__ import annotations

import asyncio
import json
import shutil
from typing import Any

import httpx2
import pytest

from tests.support.replica import Replica
from tests.support.vapi_sender import sample, status_update
from tests.system.traffic import post_webhook

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
    async with asyncio.timeout(20):
        printed, _ = await loop.communicate()
    *attempts, last = printed.decode().strip().splitlines()
    return loop.returncode, attempts, json.loads(last)


@pytest.mark.parametrize(("shell", "script"), [("bash", ORIGINAL), ("bash", PORTABLE), ("dash", PORTABLE)])
async def test_the_loop_ends_with_the_record_of_a_call_that_is_over(
    client: httpx2.AsyncClient, pair: tuple[Replica, Replica], shell: str, script: str
) -> None:
    call_id = f"loop-{shell}-{script is ORIGINAL}"
    await post_webhook(client, pair[0], sample("outbound-end-of-call-report-full", call_id))
    status, attempts, answer = await outcome_of(await run_loop(shell, script, pair[1], call_id))
    assert (status, attempts) == (0, [])
    assert answer["data"]["call_id"] == call_id
    assert answer["data"]["data_status"] == "complete"


async def test_the_original_loop_goes_on_while_the_call_runs(
    client: httpx2.AsyncClient, pair: tuple[Replica, Replica]
) -> None:
    await post_webhook(client, pair[0], status_update("ringing", "loop-running"))
    loop = await run_loop("bash", ORIGINAL, pair[1], "loop-running")
    assert loop.stdout is not None
    first = await loop.stdout.readline()
    await post_webhook(client, pair[0], sample("outbound-end-of-call-report-full", "loop-running"))
    status, _, answer = await outcome_of(loop)
    assert first == b"Attempt 1/60: Status=ringing\n"
    assert (status, answer["data"]["status"]) == (0, "ended")
