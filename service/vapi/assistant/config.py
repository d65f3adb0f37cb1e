"""Configures the assistant that makes the calls: what it says, what it finds out, and where VAPI sends reports."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Final

import msgspec

from service.calls.analysis_schema import StructuredCallData
from service.calls.call_request import CallRequest
from service.config import Settings
from service.vapi.assistant.analysis import create_analysis_plan, create_structured_outputs
from service.vapi.assistant.prompt import fill, read_prompt, values_of

ASSISTANT_NAME: Final = "AI Concierge: provider call"
"""At most 40 characters. The saved assistant is found by its name, so a new name creates a new assistant."""

SERVER_MESSAGES: Final = ("end-of-call-report", "status-update")
"""VAPI's default set sends up to 94 messages per call. Everything we store is in these two."""

FIRST_MESSAGE: Final = (
    "Hi, this is an AI assistant calling on a recorded line for a client who is looking for some help. "
    "Is this {{providerName}}?"
)
"""Says at once that this is an AI and that the call is recorded. Several US states and the EU require both."""

MAX_DURATION_S: Final = 600
"""The questions take three to five minutes; the rest allows for being put on hold."""

MODEL: Final = {"provider": "openai", "model": "gpt-4.1", "temperature": 0.2, "maxTokens": 250}
"""This model follows scripts exactly and answers without a pause to reason. 250 tokens are over a minute of speech."""

VOICE: Final = {"provider": "vapi", "voiceId": "Elliot"}
"""VAPI's own voice needs no account with a voice provider."""

TRANSCRIBER: Final = {"provider": "deepgram", "model": "nova-3", "language": "en", "numerals": True}
"""Numerals, because we ask for rates, days and times."""

TOOLS: Final = ({"type": "endCall"}, {"type": "dtmf"})
"""For hanging up and for telephone menus."""

VOICEMAIL_DETECTION: Final = {
    "provider": "vapi",
    "type": "audio",
    "backoffPlan": {"startAtSeconds": 2, "frequencySeconds": 2.5, "maxRetries": 6},
}
"""Checks for 17 s, about the length of a greeting. As we set no ``voicemailMessage``, VAPI hangs up on voicemail."""

SILENCE_REMINDER_S: Final = 10
SILENCE_END_S: Final = 30
"""Both count from the assistant's last word. Looking into a calendar takes longer than VAPI's default of 7.5 s."""

SERVER_TIMEOUT_S: Final = 20
"""VAPI's default. We answer within 2 s. A retry that overtakes a slow first attempt merges to the same record."""

BACKOFF_PLAN: Final = {
    "type": "exponential",
    "maxRetries": 8,
    "baseDelaySeconds": 1,
    "excludedStatusCodes": [400, 401, 403, 404, 405, 413, 415, 422],
}
"""Without a plan VAPI sends once. Eight retries span over four minutes, enough for a restart or a failover. The
excluded codes would only repeat; 429 and 5xx may pass. https://docs.vapi.ai/server-url
"""

_METADATA: Final = (
    "providerName", "providerPhone", "serviceNeeded", "userCriteria", "location", "urgency", "serviceRequestId", "providerId",
)  # fmt: skip


def create_assistant_config(request: CallRequest, settings: Settings) -> dict[str, Any]:
    """The VAPI assistant for this call, with the webhook secret. https://docs.vapi.ai/api-reference/assistants/create

    Without ``VAPI_WEBHOOK_URL`` it has no ``server``. VAPI then uses the server of the phone number or organisation.
    """
    values = values_of(request)
    return {
        **_assistant(fill(read_prompt(), values), fill(FIRST_MESSAGE, values), settings),
        "metadata": metadata_of(request),
    }


def create_saved_assistant_config(settings: Settings) -> dict[str, Any]:
    """The assistant to save in VAPI. A call fills its placeholders with ``assistantOverrides.variableValues``.

    The placeholders are named like a call request's fields. VAPI inserts values unchanged, so use only trusted texts.
    """
    return _assistant(read_prompt(), FIRST_MESSAGE, settings)


def metadata_of(request: CallRequest) -> dict[str, str]:
    """VAPI returns this with every webhook of the call; it becomes the record's context. Empty fields are left out."""
    given: dict[str, str] = msgspec.to_builtins(request)
    return {name: given[name] for name in _METADATA if name in given}


def _assistant(prompt: str, first_message: str, settings: Settings) -> dict[str, Any]:
    assistant: dict[str, Any] = {
        "name": ASSISTANT_NAME,
        "firstMessage": first_message,
        "firstMessageMode": "assistant-speaks-first",
        "model": {**MODEL, "messages": [{"role": "system", "content": prompt}], "tools": [*TOOLS]},
        "voice": VOICE,
        "transcriber": TRANSCRIBER,
        "voicemailDetection": VOICEMAIL_DETECTION,
        "maxDurationSeconds": MAX_DURATION_S,
        "hooks": [
            _on_silence({"type": "say", "exact": "Hello, are you still there?"}, after_s=SILENCE_REMINDER_S, times=2),
            _on_silence({"type": "tool", "tool": {"type": "endCall"}}, after_s=SILENCE_END_S, times=1),
        ],
        "backgroundSound": "off",
        "stopSpeakingPlan": {"numWords": 2},
        "artifactPlan": {"recordingEnabled": True},
        # Every webhook would contain both URLs, and anybody who has them can listen in or take over the call.
        "monitorPlan": {"listenEnabled": False, "controlEnabled": False},
        "serverMessages": [*SERVER_MESSAGES],
    }
    if settings.assistant_analysis == "structured-outputs":
        assistant["artifactPlan"]["structuredOutputs"] = create_structured_outputs(StructuredCallData)
    else:
        assistant["analysisPlan"] = create_analysis_plan(StructuredCallData)
    if settings.vapi_webhook_url is not None:
        assistant["server"] = _server(settings.vapi_webhook_url, settings)
    return deepcopy(assistant)


def _on_silence(action: dict[str, Any], *, after_s: int, times: int) -> dict[str, Any]:
    options = {"timeoutSeconds": after_s, "triggerMaxCount": times, "triggerResetMode": "onUserSpeech"}
    return {"on": "customer.speech.timeout", "options": options, "do": [action]}


def _server(url: str, settings: Settings) -> dict[str, Any]:
    server = {"url": url, "timeoutSeconds": SERVER_TIMEOUT_S, "backoffPlan": BACKOFF_PLAN}
    headers = proof_headers_of(settings)
    return server | {"headers": headers} if headers else server


def proof_headers_of(settings: Settings) -> dict[str, str]:
    """The headers that VAPI sends as proof with each webhook: the first secret, in the simplest accepted mode.

    Empty without a secret, or when only signatures are accepted: those need a credential created in VAPI.
    """
    if not settings.vapi_webhook_secret:
        return {}
    secret = settings.vapi_webhook_secret[0].reveal()
    if "secret" in settings.vapi_webhook_auth:
        return {settings.vapi_secret_header: secret}
    return {"Authorization": f"Bearer {secret}"} if "bearer" in settings.vapi_webhook_auth else {}
