"""What the archive keeps of a webhook: useful parts of known names, and no secret, whatever VAPI sends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from service.vapi.raw_payload import raw_payload_of
from tests.support.canaries import ECHOED, PRESIGNED, SAID, leaks, report

SAMPLES = sorted((Path(__file__).parents[1] / "samples" / "vapi").rglob("*.json"))
SECRET_NAMES = (
    "twilio",
    "secret",
    "headers",
    "controlurl",
    "listenurl",
    "monitor",
    "phonecallproviderdetails",
    "presigned",
)


def kept(body: Any) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(raw_payload_of(json.dumps(body).encode()))
    return decoded


def names_in(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(names_in, value.values()))
    return set().union(*map(names_in, value)) if isinstance(value, list) else set()


def test_what_is_kept_holds_what_was_said_and_no_secret() -> None:
    text = raw_payload_of(json.dumps(report("call-1")).encode()).decode()

    assert leaks("raw", text, (ECHOED, PRESIGNED)) == []
    assert SAID in text
    message = json.loads(text)["message"]
    assert message["call"]["id"] == "call-1"
    assert message["artifact"]["recordingUrl"] == "https://storage.example/recording.wav"


def test_no_sample_keeps_a_field_that_may_hold_a_secret() -> None:
    assert SAMPLES
    wrong = []
    for path in SAMPLES:
        names = names_in(json.loads(raw_payload_of(path.read_bytes()) or b"{}"))
        wrong += [f"{name} in {path.name}" for name in names if name.lower().startswith(SECRET_NAMES)]
    assert wrong == []


@pytest.mark.parametrize("odd", [None, 1, "text", [], [{"server": {"secret": ECHOED}}]])
def test_a_part_of_an_odd_type_is_left_out_and_the_rest_is_kept(odd: Any) -> None:
    body = {"message": {"type": "hang", "call": odd, "customer": odd, "recordingUrl": odd, "artifact": odd}}

    message = kept(body)["message"]
    assert message["type"] == "hang"
    assert message.keys() - {"type", "recordingUrl"} == set()
    assert ECHOED not in json.dumps(message)


def test_lone_surrogates_are_replaced_as_in_the_record() -> None:
    text = raw_payload_of(b'{"message":{"type":"hang","transcript":"\\ud83d cut","x":1e400}}')

    assert json.loads(text)["message"] == {"type": "hang", "transcript": "\ufffd cut"}


def test_what_is_no_message_or_nested_without_end_is_not_kept() -> None:
    for body in (b"", b"[]", b"{", b'{"message":' * 100_000, b'{"message":{"analysis":' + b"[" * 100_000):
        assert raw_payload_of(body) == b""
