"""What is sent: whole HTTP requests as templates for wrk/load.lua, each for one call of a ring."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.peers import SECRET, TOKEN
from tests.support.vapi_sender import SAMPLE_CALL_ID, SAMPLES, sample

CALLS = 10_000
LARGE_CALLS = 1_000
"""Of 200 kB each; more would measure the machine's memory."""

LARGE_BYTES = 200_000
CALL_ID = SAMPLE_CALL_ID[:-5] + "@C@"
LARGE_CALL_ID = SAMPLE_CALL_ID[:-6] + "f@C@"


@dataclass(frozen=True)
class Workload:
    name: str
    template: bytes
    call_id: str = CALL_ID
    calls: int = CALLS
    precedes_polls: bool = False
    only_ours: bool = False
    """True for what the original design does not have; its full poll is the comparison."""
    needs_etags: bool = False

    def request(self, number: int, etag: str = "") -> bytes:
        """The request as wrk/load.lua sends it, for one call."""
        filled = self.template.replace(b"@C@", b"%05d" % number).replace(b"@P@", b"%04d" % number)
        filled = filled.replace(b"@T@", b"1788264000000").replace(b"@N@", b"00000000")
        return filled.replace(b"@E@", etag.encode())

    def id_of(self, number: int) -> str:
        return self.call_id.replace("@C@", f"{number:05}")


STATUS = "webhook: status-update, ended"
REPORT = "webhook: end-of-call report, 23 kB"
CONVERSATION = "webhook: conversation-update, nothing new"
LARGE = "webhook: end-of-call report, 200 kB"
POLL = "poll: full record"
POLL_SUMMARY = "poll: view=summary"
POLL_UNCHANGED = "poll: 304 by If-None-Match"


def all_workloads() -> list[Workload]:
    """In the order of a call's life: each finds what the one before has stored."""
    return [
        Workload(STATUS, webhook(_status_update())),
        Workload(REPORT, webhook(_report(sample("outbound-end-of-call-report-full"))), precedes_polls=True),
        Workload(POLL, poll()),
        Workload(POLL_SUMMARY, poll("?view=summary"), only_ours=True),
        Workload(POLL_UNCHANGED, poll("", "If-None-Match: @E@\r\n"), only_ours=True, needs_etags=True),
        Workload(CONVERSATION, webhook(_conversation_update())),
        Workload(LARGE, webhook(_report(_large_report()), LARGE_CALL_ID), LARGE_CALL_ID, LARGE_CALLS),
    ]


def webhook(body: dict[str, Any], call_id: str = CALL_ID) -> bytes:
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
    text = text.replace(SAMPLE_CALL_ID, call_id).replace("+18645550123", "+1864555@P@")
    text = text.replace('"timestamp":"@T@"', '"timestamp":@T@')
    content = text.encode()
    length = len(content)
    for token, width in ((b"@C@", 5), (b"@P@", 4), (b"@T@", 13), (b"@N@", 8)):
        length += content.count(token) * (width - len(token))
    head = (
        "POST /api/v1/vapi/webhook HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"X-Vapi-Secret: {SECRET}\r\nContent-Length: {length}\r\n\r\n"
    )
    return head.encode() + content


def poll(query: str = "", headers: str = "", call_id: str = CALL_ID) -> bytes:
    line = f"GET /api/v1/vapi/calls/{call_id}{query} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    return f"{line}Authorization: Bearer {TOKEN}\r\n{headers}\r\n".encode()


def _status_update() -> dict[str, Any]:
    body = sample("outbound-status-update-ended")
    body["message"] |= {"timestamp": "@T@", "endedReason": "customer-ended-call-@N@"}
    return body


def _report(body: dict[str, Any]) -> dict[str, Any]:
    """Each time round the ring it says something new, so that no webhook is a mere repetition."""
    summary = body["message"]["analysis"]["summary"]
    body["message"] |= {"timestamp": "@T@"}
    body["message"]["analysis"]["summary"] = f"{summary} @N@"
    return body


def _conversation_update() -> dict[str, Any]:
    """About a call whose report is there; made from the report's own parts, placed as VAPI places them."""
    message = sample("outbound-end-of-call-report-full")["message"]
    artifact = message["artifact"]
    common = ("call", "phoneNumber", "customer", "assistant")
    parts = ("messages", "messagesOpenAIFormatted", "variables", "variableValues")
    turns = artifact["messages"]
    spoken = artifact["messagesOpenAIFormatted"]
    update = {
        "timestamp": "@T@",
        "type": "conversation-update",
        "conversation": spoken,
        "messages": turns,
        "messagesOpenAIFormatted": spoken,
        "artifact": {name: artifact[name] for name in parts},
        **{name: message[name] for name in common},
    }
    return {"message": update}


def _large_report() -> dict[str, Any]:
    script = SAMPLES / "make_large_report.py"
    made = subprocess.run([sys.executable, str(script), str(LARGE_BYTES)], capture_output=True, check=True)
    body: dict[str, Any] = json.loads(made.stdout)
    return body


def write_templates(workloads: list[Workload], folder: Path) -> dict[str, Path]:
    paths = {}
    for number, workload in enumerate(workloads):
        paths[workload.name] = folder / f"request-{number}"
        paths[workload.name].write_bytes(workload.template)
    return paths
