"""Judges how the service answered the probe. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from service import __version__
from service.cli.doctor.findings import Finding, error, ok, warning
from service.config import Settings
from service.errors import UpstreamError
from service.outbound import HttpAnswer


def judge_webhook(answer: HttpAnswer, settings: Settings, address: str) -> Finding:
    status, ours = answer.status, _decoded(answer)
    if status == 200 and ours.get("success") is True:
        how = "signed or proven" if settings.vapi_webhook_secret else "without proof, as no secret is set"
        return ok("webhook", f"the probe was taken, {how}")
    if status == 401 and ours:
        mend = "give the service and the doctor the same VAPI_WEBHOOK_SECRET and VAPI_HMAC_*; see whether a proxy drops the header"
        return error(
            "webhook", "the service refuses our proof (401): it has another secret, or does not get the header", mend
        )
    if status == 503 and ours:
        return error("webhook", f"the service cannot take it now: {ours.get('error')}", "mend Redis, or set SPOOL_DIR")
    if status == 429:
        return error(
            "webhook", "the service, or what stands before it, refuses more requests (429)", "try again in a minute"
        )
    if 300 <= status < 400:
        found = f"{address} redirects ({status}): VAPI does not follow"
        return error("webhook", found, "name the address it leads to, in VAPI and in VAPI_WEBHOOK_URL")
    if status in (502, 504) or (status == 503 and not ours):
        return error(
            "webhook",
            f"a proxy answered {status}: it reaches no replica",
            "see its log and /health/ready of the replicas",
        )
    if ours:
        return error("webhook", f"{status}: {ours.get('error')}", "see the service's log for this request")
    found = f"{address} answered {status}, and not as this service does"
    return error("webhook", found, "correct VAPI_WEBHOOK_URL or --url, or the route of the proxy")


def judge_poll(answer: HttpAnswer | UpstreamError, base: str, settings: Settings) -> Finding:
    if isinstance(answer, UpstreamError):
        return error("poll", str(answer), f"see what stands before {base}")
    status, ours = answer.status, _decoded(answer)
    if status == 200 and ours.get("success") is True:
        return ok("poll", "the probe's record can be read")
    if not ours:
        found = f"{base} answered the poll {status}, and not as this service does: it takes webhooks only"
        return warning("poll", found, "if that is meant so, give --url the address that Kestra uses")
    if status in (401, 403):
        has = "has another token" if settings.api_read_tokens or settings.api_admin_tokens else "wants a token"
        mend = "give service, doctor and Kestra the same API_READ_TOKENS, or --token"
        return error("poll", f"the service {has} ({status})", mend)
    if status == 404:
        found = "the webhook was taken, and its record is nowhere: the replicas do not share one Redis"
        return error(
            "poll", found, "give all replicas the same REDIS_URL and REDIS_KEY_PREFIX; see what they have spooled"
        )
    return error("poll", f"{status}: {ours.get('error')}", "see the service's log for this request")


def judge_health(answer: HttpAnswer, base: str) -> Finding:
    health = _decoded(answer)
    status = health.get("status") or health.get("error")
    if answer.status not in (200, 503) or not status:
        return ok("health", f"{base} does not serve /health, which need not be public")
    down = [
        f"{name}: {each.get('problem') or each.get('status')}"
        for name, each in _items(health.get("dependencies"))
        if each.get("status") != "ok"
    ]
    why = f" ({'; '.join(down)})" if down else ""
    if answer.status == 503:
        mend = "mend that first: webhooks are answered 503"
        return error("health", f"the service says it is {status}{why}", mend)
    version = health.get("version")
    if version not in (None, __version__):
        found = f"the service is version {version}, this is {__version__}"
        return warning("health", found, "run the doctor of the version that serves")
    if down:
        return warning("health", f"the service says it is {status}{why}", "mend that; webhooks are taken meanwhile")
    return ok("health", f"the service is {status}" + (f", version {version}" if version else ""))


def is_ours(answer: HttpAnswer) -> bool:
    """Whether this service gave the answer, and not a proxy or somebody else."""
    return bool(_decoded(answer))


def _items(dependencies: Any) -> list[tuple[str, dict[str, Any]]]:
    if not isinstance(dependencies, dict):
        return []
    return [(str(name), each) for name, each in dependencies.items() if isinstance(each, dict)]


def _decoded(answer: HttpAnswer) -> dict[str, Any]:
    """The answer in our own form; empty if it has another."""
    try:
        body = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return body if isinstance(body, dict) and isinstance(body.get("success"), bool) else {}
