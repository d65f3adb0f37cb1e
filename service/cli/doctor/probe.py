"""Sends one webhook to the service as VAPI would, reads its record as Kestra would, and deletes it again.

The call is named ``doctor-probe-...``. It never ends, so it counts as no result, wakes nobody and has no phone number.
Redirects are not followed: VAPI does not follow them, and the tokens are for this address only.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from service.cli.client import prove
from service.cli.doctor.addresses import addresses_of, is_webhook_url, shown
from service.cli.doctor.checking import SHARE_OF_DEADLINE, Check, late
from service.cli.doctor.findings import Finding, error, ok, warning
from service.cli.doctor.probe_answers import is_ours, judge_health, judge_poll, judge_webhook
from service.config import Settings
from service.errors import StoreUnavailableError, UpstreamError
from service.outbound import Failure, HttpAnswer, HttpSession
from service.store.calls import CallStore
from service.urls import is_loopback

CLEAN_UP_S: Final = 5.0
"""Comes after the deadline of the check: whatever happens, the probe is deleted."""

POLLS: Final = 4
POLL_PAUSE_S: Final = 0.5
"""A webhook that was spooled is in Redis within a second or two of Redis's return."""

MAX_ANSWER_BYTES: Final = 256 * 1024

SENTENCES: Final[Mapping[Failure, str]] = {
    "unreadable": "{name} gives an answer that cannot be read",
    "too_large": "{name} gives an answer that is too large",
    "untrusted": "{name}'s certificate is not trusted",
    "broken": "{name} closed the connection without a whole answer",
}


@dataclass
class Probe:
    """One webhook and what became of it.

    Args:
        url, token: of the command line; None: as the settings say.
        calls: the store of REDIS_URL; None with the embedded one, which is in another process.
    """

    settings: Settings
    url: str | None
    token: str | None
    calls: CallStore | None
    within_s: float
    call_id: str = field(default_factory=lambda: f"doctor-probe-{uuid.uuid4()}")

    def __post_init__(self) -> None:
        self._may_be_stored = False
        self.hook, self.base = addresses_of(self.settings, self.url)
        open_session = partial(
            HttpSession, headers={}, sentences=SENTENCES, max_connections=2, max_answer_bytes=MAX_ANSWER_BYTES,
            max_refusal_bytes=MAX_ANSWER_BYTES,
        )  # fmt: skip
        self._hook = open_session("The webhook's address", self.hook)
        self._base = open_session("The service", self.base, tls=self._hook.tls)

    async def close(self) -> None:
        await self._hook.close()
        await self._base.close()

    @property
    def checks(self) -> list[Check]:
        return [
            Check("address", self._find_address),
            Check("health", self._find_health),
            Check("webhook", self._find_round_trip, extra_s=2 * CLEAN_UP_S),
        ]

    async def _find_address(self) -> list[Finding]:
        return [judge_address(self.settings, self.hook, is_given=self.url is not None)]

    async def _find_health(self) -> list[Finding]:
        answer = await self._get("/health")
        return [judge_health(answer, shown(self.base))] if isinstance(answer, HttpAnswer) else []  # the webhook says so

    async def _find_round_trip(self) -> list[Finding]:
        findings: list[Finding] = []
        try:
            async with asyncio.timeout(self.within_s):
                await self._go_around(findings)
        except TimeoutError:
            findings.append(late("poll" if findings else "webhook", self.within_s))
        finally:
            if self._may_be_stored:
                findings += await self._clean_up()
        return findings

    async def _go_around(self, findings: list[Finding]) -> None:
        """Add each finding as it is made, so that a later step that hangs takes none of them away."""
        self._may_be_stored = True
        sent = await self._send_webhook()
        if isinstance(sent, UpstreamError):
            self._may_be_stored = sent.is_outcome_unknown
            mend = f"see that a service runs there, and what stands before it: {shown(self.hook)}"
            findings.append(error("webhook", str(sent), mend))
            return
        # A 5xx may come from a proxy that passed it on, or of a write that Redis made too late.
        self._may_be_stored = sent.status >= 500 or (sent.status < 300 and is_ours(sent))
        findings.append(judge_webhook(sent, self.settings, shown(self.hook)))
        if findings[-1].level != "error":
            findings.append(await self._find_poll())
            if self.calls is not None:
                findings += await self._find_stored(self.calls)

    async def _send_webhook(self) -> HttpAnswer | UpstreamError:
        message = {
            "type": "status-update",
            "status": "queued",
            "timestamp": round(time.time() * 1000),
            "call": {"id": self.call_id, "status": "queued", "metadata": {"probe": "vapi-cache doctor"}},
        }
        body = json.dumps({"message": message}).encode()
        headers = {"Content-Type": "application/json", **prove(self.settings, proof_mode(self.settings), body)}
        try:
            return await self._hook.send("POST", "", within_s=self._request_s, content=body, headers=headers)
        except UpstreamError as exc:
            return exc

    async def _find_poll(self) -> Finding:
        answer: HttpAnswer | UpstreamError | None = None
        for number in range(POLLS):
            await asyncio.sleep(POLL_PAUSE_S if number else 0)
            answer = await self._get(f"/api/v1/vapi/calls/{self.call_id}?view=summary")
            if isinstance(answer, HttpAnswer) and answer.status not in (404, 503):
                break
        assert answer is not None
        return judge_poll(answer, shown(self.base), self.settings)

    async def _find_stored(self, calls: CallStore) -> list[Finding]:
        """Whether the Redis of our settings is the one that the service writes to."""
        try:
            stored = await calls.find(self.call_id.encode())
        except StoreUnavailableError:
            return []  # the checks of Redis say so
        if stored is None:
            found = "the service took the probe, and it is not in the Redis of REDIS_URL"
            mend = (
                "run the doctor with the service's own settings (REDIS_URL, REDIS_KEY_PREFIX), or see what is spooled"
            )
            return [error("same Redis", found, mend)]
        return [ok("same Redis", "the probe is in the Redis of REDIS_URL")]

    async def _clean_up(self) -> list[Finding]:
        try:
            async with asyncio.timeout(CLEAN_UP_S):
                if await self._delete() or await self._delete_in_redis():
                    return []
        except TimeoutError:
            pass
        life_h = self.settings.pending_ttl_s / 3600
        found = f"the probe {self.call_id} could not be deleted; if it was stored, it expires within {life_h:.0f} h"
        return [warning("clean-up", found, "DELETE /api/v1/vapi/calls/<that id> with an admin token")]

    async def _delete(self) -> bool:
        headers = self._authorization(self.settings.api_admin_tokens)
        path = f"/api/v1/vapi/calls/{self.call_id}"
        try:
            answer = await self._base.send("DELETE", path, within_s=CLEAN_UP_S / 2, headers=headers)
        except UpstreamError:
            return False
        return answer.status in (200, 404) and is_ours(answer)  # 404: nothing was there, and nothing will be

    async def _delete_in_redis(self) -> bool:
        if self.calls is None:
            return False
        try:
            await self.calls.delete(self.call_id.encode())
        except StoreUnavailableError:
            return False
        return True

    async def _get(self, path: str) -> HttpAnswer | UpstreamError:
        headers = self._authorization((*self.settings.api_read_tokens, *self.settings.api_admin_tokens))
        try:
            return await self._base.send("GET", path, within_s=self._request_s, headers=headers)
        except UpstreamError as exc:
            return exc

    @property
    def _request_s(self) -> float:
        return self.within_s * SHARE_OF_DEADLINE

    def _authorization(self, tokens: tuple[Any, ...]) -> Mapping[str, str]:
        token = self.token or (tokens[0].reveal() if tokens else None)
        return {"Authorization": f"Bearer {token}"} if token else {}


def proof_mode(settings: Settings) -> str:
    """The simplest mode that is accepted, as VAPI uses it with the assistant that we send."""
    if not settings.vapi_webhook_secret:
        return "none"
    return next(mode for mode in ("secret", "bearer", "hmac", "legacy") if mode in settings.vapi_webhook_auth)


def judge_address(settings: Settings, hook: str, *, is_given: bool) -> Finding:
    parts = urlsplit(hook)
    if is_given:
        return ok("address", f"{shown(hook)}, as --url says")
    if settings.vapi_webhook_url is None:
        found = f"VAPI_WEBHOOK_URL is not set; the probe goes to {shown(hook)}"
        return warning("address", found, "set it to the address that VAPI reaches, or give --url")
    if is_loopback(parts.hostname):
        found = f"{shown(hook)} is an address of this machine, which VAPI cannot reach"
        return warning("address", found, "set VAPI_WEBHOOK_URL to the address that VAPI reaches")
    if parts.scheme != "https":
        found = f"{shown(hook)} is not https: secrets and results travel in clear"
        return warning("address", found, "end TLS in front of the service, and use https here and in VAPI")
    if not is_webhook_url(hook):
        found = f"{shown(hook)} does not end in /api/v1/vapi/webhook; other routes are looked for at the host's root"
        return warning("address", found, "correct VAPI_WEBHOOK_URL, unless a proxy changes the path")
    return ok("address", shown(hook))
