"""What VAPI hands around in its messages and must not be kept: credentials, live controls, presigned queries."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.call_record import change_by
from tests.support.for_each import for_each
from tests.support.vapi_sender import full_report, message, sample_bytes, sample_names, status_update

SECRETS = [
    b"MUST-NOT-BE-STORED",
    b"AC00000000000000000000000000000000",
    b"CA00000000000000000000000000000000",
    b"phone-call-websocket",
    b"listenUrl",
    b"controlUrl",
    b"X-Amz-",
    b"presigned",
    b"hooks.example.com",
    b"credentialId",
    b"33333333-3333-4333-8333-333333333333",
    b"calllogs.vapi.ai",
    b"twilio",
]


def all_of(body: dict[str, Any] | bytes) -> bytes:
    """Everything that would be stored of a body."""
    change = change_by(body)
    return b"\n".join((change.call_id, *change.facts.known().values()))


def test_the_samples_hold_the_secrets_that_are_looked_for() -> None:
    everything = b"".join(sample_bytes(name) for name in sample_names())
    assert [secret for secret in SECRETS if secret not in everything] == []


@for_each("secret", SECRETS)
@for_each("name", [name for name in sample_names() if name != "session.created-no-call"])
def test_nothing_secret_in_a_sample_would_be_stored(name: str, secret: bytes) -> None:
    assert secret not in all_of(sample_bytes(name))


PLANTED = "PLANTED-SECRET"
SERVER: dict[str, Any] = {
    "server": {"url": f"https://x.example/{PLANTED}", "secret": PLANTED, "headers": {"authorization": PLANTED}}
}


@pytest.mark.parametrize("body", [full_report(), status_update("ended"), message("hang"), message("tool-calls")])
def test_no_credential_that_vapi_puts_beside_the_facts_would_be_stored(body: dict[str, Any]) -> None:
    phone_number = {"id": "p-1", "twilioAuthToken": PLANTED, "twilioAccountSid": PLANTED, **SERVER}
    values = {"now": "Sep 1", "phoneNumber": phone_number, "location": "Greenville"}
    body["message"] |= {
        "phoneNumber": phone_number,
        "assistant": {"id": "a-1", "model": {"tools": [SERVER]}, "variableValues": values, **SERVER},
        "customer": {"number": "+18645550123", "assistantOverrides": SERVER},
        "toolWithToolCallList": [SERVER],
        "call": {
            "id": "call-1",
            "monitor": {"listenUrl": f"wss://x.example/{PLANTED}", "controlUrl": f"https://x.example/{PLANTED}"},
            "phoneCallProviderDetails": {"sip": {"headers": {"authorization": PLANTED}}},
            "phoneNumber": phone_number,
            "assistantOverrides": {"variableValues": values, **SERVER},
        },
        **SERVER,
    }
    artifact = body["message"].setdefault("artifact", {})
    artifact |= {
        "variables": values,
        "variableValues": values,
        "logUrl": PLANTED,
        "pcapUrl": PLANTED,
        **{
            f"presigned{kind}Url": f"https://x.example/a?X-Amz-Signature={PLANTED}"
            for kind in ("Mono", "Stereo", "Log")
        },
    }
    assert PLANTED.encode() not in all_of(body)
