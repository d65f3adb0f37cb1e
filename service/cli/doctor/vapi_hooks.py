"""Judges where VAPI sends what happens in a call: an assistant's or a phone number's ``server``. Pure.

Texts here come from VAPI's API, where people fill them in, so any field may have any type.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from service.cli.doctor.addresses import is_same_hook, is_webhook_url, shown
from service.cli.doctor.findings import Finding, error, ok, warning
from service.config import Settings
from service.errors import InvalidSignatureError
from service.vapi.assistant.config import SERVER_MESSAGES
from service.vapi.authentication import WebhookProof

SECRET_HEADER: Final = "x-vapi-secret"  # noqa: S105 - where VAPI puts ``server.secret``

PASSING: Final = (429, 500, 502, 503, 504)
"""What we or a load balancer answer while something is wrong that a repetition may outlast."""

MOST_RETRIES_IN_VAIN: Final = 3
"""Fewer repetitions do not outlast a restart of Redis."""

PUSH: Final = "python -m service assistant push"


def judge_hook(name: str, holder: Mapping[str, Any], settings: Settings) -> list[Finding]:
    """Of an assistant or a phone number that has a server. One line if all is well."""
    server = server_of(holder)
    assert server is not None
    problems = [*_judge_url(name, server, settings)]
    if not any(each.level == "error" for each in problems):  # else it is another service's
        problems += [*_judge_proof(name, server, holder, settings), *_judge_retries(name, server)]
        problems += _judge_encryption(name, server)
    return problems or [ok(name, f"sends to {shown(server.get('url'))}, proven, and repeats what fails")]


def server_of(holder: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The ``server``, or what older versions of VAPI's API had in its place; None without an address."""
    server = holder.get("server")
    if isinstance(server, dict) and server.get("url"):
        return server
    old = holder.get("serverUrl")
    return {"url": old, "secret": holder.get("serverUrlSecret")} if old else None


def _judge_url(name: str, server: Mapping[str, Any], settings: Settings) -> Iterator[Finding]:
    url, ours = server.get("url"), settings.vapi_webhook_url
    if ours is not None and not is_same_hook(url, ours):
        found = f"sends to {shown(url)}, and VAPI_WEBHOOK_URL is {shown(ours)}"
        yield error(name, found, f"set server.url in VAPI to VAPI_WEBHOOK_URL; the shipped assistant's: {PUSH}")
    elif ours is None and not is_webhook_url(str(url)):
        found = f"sends to {shown(url)}, which does not end in /api/v1/vapi/webhook"
        yield warning(name, found, "correct server.url in VAPI, and set VAPI_WEBHOOK_URL to it")


def _judge_proof(
    name: str, server: Mapping[str, Any], holder: Mapping[str, Any], settings: Settings
) -> Iterator[Finding]:
    if not settings.vapi_webhook_secret:
        return
    headers = _headers_of(server)
    reason = _refusal_of(headers, settings)
    if reason is None:
        return
    if server.get("credentialId") or holder.get("isServerUrlSecretSet"):
        return  # VAPI does not show its secret
    if reason == "no proof header":
        found = "sends no proof: every webhook is refused (401)"
    else:
        found = f"sends a proof that is not accepted here ({reason}): every webhook is refused (401)"
    mend = "give server.headers, server.secret or a credential in VAPI a secret of VAPI_WEBHOOK_SECRET"
    yield error(name, found, f"{mend}; the shipped assistant's: {PUSH}")


def _headers_of(server: Mapping[str, Any]) -> dict[bytes, bytes]:
    given = server.get("headers")
    headers = dict(given) if isinstance(given, dict) else {}
    if server.get("secret"):
        headers.setdefault(SECRET_HEADER, server["secret"])
    return {str(key).strip().lower().encode(): str(value).encode() for key, value in headers.items()}


def _refusal_of(headers: Mapping[bytes, bytes], settings: Settings) -> str | None:
    """Why these headers are no proof; None when they are. A header that never changes cannot be a signature."""
    try:
        check = WebhookProof(settings).verify_headers(headers, time.time())
    except InvalidSignatureError as exc:
        return exc.reason
    return None if check is None else "a signature that never changes"


def _judge_retries(name: str, server: Mapping[str, Any]) -> Iterator[Finding]:
    plan = server.get("backoffPlan")
    mend = "give server.backoffPlan in VAPI what the README shows under Connecting VAPI"
    retries = plan.get("maxRetries", 0) if isinstance(plan, dict) else 0
    if not isinstance(plan, dict) or not _is_number(retries) or retries <= 0:
        found = "has no backoffPlan: VAPI sends once, and what meets a restart is lost"
        yield warning(name, found, f"{mend}; the shipped assistant's: {PUSH}")
        return
    if retries < MOST_RETRIES_IN_VAIN:
        yield warning(name, f"repeats a webhook only {retries:g} times", f"{mend}: maxRetries 8")
    excluded = plan.get("excludedStatusCodes")
    never = [str(code) for code in PASSING if isinstance(excluded, list) and code in excluded]
    if never:
        found = f"never repeats after {', '.join(never)}, which pass"
        yield warning(name, found, f"take them out of backoffPlan.excludedStatusCodes; {mend}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _judge_encryption(name: str, server: Mapping[str, Any]) -> Iterator[Finding]:
    if server.get("encryptedPaths"):
        found = "encrypts parts of the webhook (encryptedPaths), which this service cannot read"
        yield error(name, found, "unset server.encryptedPaths in VAPI")


def judge_messages(name: str, assistant: Mapping[str, Any]) -> list[Finding]:
    sent = assistant.get("serverMessages")
    mend = f"set serverMessages to {', '.join(SERVER_MESSAGES)}; the shipped assistant's: {PUSH}"
    if not isinstance(sent, list):
        found = "serverMessages is not set: VAPI's default sends up to 94 webhooks per call"
        return [warning(name, found, mend)]
    if "end-of-call-report" not in sent:
        return [error(name, "serverMessages lacks end-of-call-report: no result ever comes", mend)]
    if "status-update" not in sent:
        return [warning(name, "serverMessages lacks status-update: a call shows nothing until it is over", mend)]
    if surplus := [str(each) for each in sent if each not in (*SERVER_MESSAGES, "hang", "call.deleted")]:
        return [warning(name, f"serverMessages has what nothing here keeps: {', '.join(surplus)}", mend)]
    return []
