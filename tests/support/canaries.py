"""Strings that exist nowhere else, put wherever somebody's private words or secrets go in, and looked for where none may come out."""

from __future__ import annotations

from typing import Any, Final

PHONE: Final = "+18645557261"
PROVIDER_PHONE: Final = "+18645558372"

SAID: Final = "canary-the-customer-said"
SUMMED_UP: Final = "canary-the-model-summed-up"
PERSON: Final = "canary-name-of-a-person"
ADDRESS: Final = "canary-12-address-street"
WISHES: Final = "canary-wishes-of-the-user"
PRESIGNED: Final = "canary-signature-of-a-link"
ECHOED: Final = "canary-secret-that-vapi-echoes"
TYPED: Final = "canary-typed-at-the-wrong-place"

WEBHOOK_SECRET: Final = "canary-webhook-secret"
WRONG_SECRET: Final = "canary-wrong-secret"
READ_TOKEN: Final = "canary-read-token"
ADMIN_TOKEN: Final = "canary-admin-token"
WRONG_TOKEN: Final = "canary-wrong-token"
REDIS_PASSWORD: Final = "canary-redis-password"
VAPI_KEY: Final = "canary-vapi-key"
KESTRA_PASSWORD: Final = "canary-kestra-password"
DATABASE_PASSWORD: Final = "canary-database-password"
CALLBACK_KEY: Final = "canary-key-of-a-callback"
CALLBACK_SECRET: Final = "whsec_canaryOfTheSecretOfCallbacks0000"

SECRETS: Final = (
    WEBHOOK_SECRET, WRONG_SECRET, READ_TOKEN, ADMIN_TOKEN, WRONG_TOKEN, REDIS_PASSWORD, VAPI_KEY, KESTRA_PASSWORD,
    DATABASE_PASSWORD, CALLBACK_KEY, CALLBACK_SECRET, ECHOED,
)  # fmt: skip
"""What no answer at all may hold, not even a record."""

PRIVATE: Final = (
    PHONE[1:], PHONE[2:], PROVIDER_PHONE[1:], PROVIDER_PHONE[2:],
    SAID, SUMMED_UP, PERSON, ADDRESS, WISHES, PRESIGNED, TYPED,
)  # fmt: skip
"""What only a record may hold, and those answers whose purpose is to hold it."""


def leaks(where: str, text: str, canaries: tuple[str, ...] = (*SECRETS, *PRIVATE)) -> list[str]:
    """Which canaries are in the text, each with where that is."""
    return [f"{canary} in {where}" for canary in canaries if canary in text]


def report(call_id: str) -> dict[str, Any]:
    """A full end-of-call report with a canary wherever VAPI has room for one."""
    keys = {"secret": ECHOED, "headers": {"X-Key": ECHOED}}
    return {
        "message": {
            "type": "end-of-call-report",
            "timestamp": 1_788_264_000_000,
            "endedReason": "customer-ended-call",
            "durationSeconds": 26.5,
            "cost": 0.12,
            "artifact": {
                "transcript": f"AI: Hello.\nUser: {SAID}\n",
                "messages": [{"role": "user", "message": SAID}, {"role": "bot", "message": SAID}],
                "recordingUrl": f"https://storage.example/recording.wav?X-Amz-Signature={PRESIGNED}",
                "variables": {"phoneNumber": {"twilioAuthToken": ECHOED}, "customer": {"number": PHONE}},
                "variableValues": {"clientName": PERSON, "phoneNumber": {"twilioAuthToken": ECHOED}},
                "structuredOutputs": {"1": {"name": "said", "result": {"words": SAID}}},
            },
            "analysis": {"summary": SUMMED_UP, "structuredData": {"notes": SUMMED_UP}, "successEvaluation": "true"},
            "assistant": {"server": keys, "metadata": {"clientName": PERSON, "clientAddress": ADDRESS}},
            "phoneNumber": {"number": PROVIDER_PHONE, "twilioAuthToken": ECHOED, "server": keys},
            "customer": {"number": PHONE, "name": PERSON},
            "call": {
                "id": call_id,
                "type": "outboundPhoneCall",
                "customer": {"number": PHONE, "name": PERSON},
                "metadata": {"providerPhone": PROVIDER_PHONE, "providerName": PERSON, "userCriteria": WISHES},
                "monitor": {
                    "controlUrl": f"https://vapi.example/{ECHOED}",
                    "listenUrl": f"wss://vapi.example/{ECHOED}",
                },
            },
        }
    }


def odd_report(call_id: str) -> dict[str, Any]:
    """The same with every field of a type that it cannot have, so that each is dropped or salvaged."""
    odd = {"odd": [TYPED, SAID, PHONE]}
    fields = ("endedReason", "durationSeconds", "cost", "startedAt", "artifact", "analysis", "customer", "phoneNumber")
    return {"message": {"type": "end-of-call-report", "call": {"id": call_id}, **dict.fromkeys(fields, odd)}}


CALL_REQUEST: Final = {
    "providerName": PERSON,
    "providerPhone": PROVIDER_PHONE,
    "serviceNeeded": WISHES,
    "userCriteria": WISHES,
    "location": ADDRESS,
    "urgency": "within_2_days",
    "clientName": PERSON,
    "clientAddress": ADDRESS,
    "customPrompt": SAID,
}
