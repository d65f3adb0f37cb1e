"""VAPI's configurable signature: its timestamp's window, its headers' names, its payload, and what it turns off."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from service.errors import SettingsError
from tests.support.for_each import for_each
from tests.support.vapi_sender import sign
from tests.support.webhook_proofs import BODY, NOW_S, SECRET, is_taken, lower, proof_with, refusal

TOO_OLD = "timestamp is more than 5 minutes off"
NO_TIMESTAMP = "timestamp header missing or not a number"
URL = "https://hooks.example.com/api/v1/vapi/webhook"
LEGACY = lower({"X-Vapi-Signature": hmac.new(SECRET.encode(), BODY, hashlib.sha256).hexdigest()})


def signed_at(stamp: str) -> dict[bytes, bytes]:
    return lower(sign(BODY, SECRET, timestamp=stamp))


def mac_of(payload: bytes) -> str:
    return hmac.new(SECRET.encode(), payload, hashlib.sha256).hexdigest()


@for_each("unit", [1, 1000])
@for_each("off_s", [0, 1, -1, 299, -299, 300, -300])
def test_a_timestamp_up_to_five_minutes_off_is_fresh(unit: int, off_s: int) -> None:
    assert is_taken(proof_with(), signed_at(str((int(NOW_S) + off_s) * unit)))


@for_each("unit", [1, 1000])
@for_each("off_s", [301, -301, 3600, -86_400, -int(NOW_S)])
def test_a_timestamp_further_off_is_refused_either_way(unit: int, off_s: int) -> None:
    assert refusal(proof_with(), signed_at(str((int(NOW_S) + off_s) * unit))) == TOO_OLD


@pytest.mark.parametrize("stamp", ["1788264000.25", " 1788264000 ", "1788264000000.9"])
def test_a_timestamp_is_read_with_a_fraction_and_signed_without_white_space_around_it(stamp: str) -> None:
    headers = signed_at(stamp.strip()) | {b"x-timestamp": stamp.encode()}
    assert is_taken(proof_with(), headers)


@pytest.mark.parametrize("stamp", ["", " ", "now", "2026-09-01T12:00:00Z", "0x6a95", "\u0661\u0667", "1,788,264,000"])
def test_a_timestamp_that_is_no_number_is_refused_though_it_is_signed(stamp: str) -> None:
    assert refusal(proof_with(), signed_at(stamp)) == NO_TIMESTAMP


@pytest.mark.parametrize("stamp", ["nan", "inf", "-inf", "1e400", "-1788264000", "9" * 400])
def test_a_timestamp_that_is_no_moment_is_refused_though_it_is_signed(stamp: str) -> None:
    assert refusal(proof_with(), signed_at(stamp)) == TOO_OLD


def test_a_missing_timestamp_is_refused() -> None:
    headers = signed_at(str(int(NOW_S)))
    del headers[b"x-timestamp"]
    assert refusal(proof_with(), headers) == NO_TIMESTAMP


def test_a_body_signed_without_a_timestamp_is_refused_where_one_belongs_to_it() -> None:
    headers = lower({"X-Signature": mac_of(b"." + BODY)})
    assert refusal(proof_with(), headers) == NO_TIMESTAMP


def test_a_fresh_timestamp_beside_an_old_signature_is_refused() -> None:
    headers = signed_at(str(int(NOW_S) - 3600)) | {b"x-timestamp": str(int(NOW_S)).encode()}
    assert refusal(proof_with(), headers) == "signature does not match the body"


def test_a_timestamp_that_the_signature_does_not_cover_is_not_asked_for() -> None:
    proof = proof_with(VAPI_HMAC_PAYLOAD_FORMAT="{body}")
    assert is_taken(proof, lower({"X-Signature": mac_of(BODY), "X-Timestamp": "1"}))


def test_the_headers_can_be_renamed() -> None:
    proof = proof_with(
        VAPI_HMAC_SIGNATURE_HEADER="Webhook-Signature",
        VAPI_HMAC_TIMESTAMP_HEADER="Webhook-Timestamp",
    )
    sent = sign(BODY, SECRET, timestamp=str(int(NOW_S)))
    renamed = {"Webhook-Signature": sent["x-signature"], "Webhook-Timestamp": sent["x-timestamp"]}
    assert is_taken(proof, lower(renamed))
    assert refusal(proof, lower(sent)) == "no proof header"


def test_the_payload_may_hold_the_method_the_url_and_the_message_id() -> None:
    proof = proof_with(
        VAPI_HMAC_PAYLOAD_FORMAT="{svix-id}|{method}|{url}|{timestamp}|{body}|{method}",
        VAPI_HMAC_MESSAGE_ID_HEADER="X-Message-Id",
        VAPI_WEBHOOK_URL=URL,
    )
    mac = mac_of(f"msg_1|POST|{URL}|{int(NOW_S)}|".encode() + BODY + b"|POST")
    headers = lower({"X-Signature": mac, "X-Timestamp": str(int(NOW_S)), "X-Message-Id": "msg_1"})
    assert is_taken(proof, headers)
    assert not is_taken(proof, headers | {b"x-message-id": b"msg_2"})


def test_the_svix_scheme_works() -> None:
    key = base64.b64encode(SECRET.encode()).decode()
    proof = proof_with(
        VAPI_WEBHOOK_SECRET=key,
        VAPI_HMAC_SECRET_IS_BASE64="1",
        VAPI_HMAC_PAYLOAD_FORMAT="{svix-id}.{timestamp}.{body}",
        VAPI_HMAC_ENCODING="base64",
        VAPI_HMAC_PREFIX="v1,",
        VAPI_HMAC_SIGNATURE_HEADER="svix-signature",
        VAPI_HMAC_TIMESTAMP_HEADER="svix-timestamp",
    )
    digest = hmac.new(SECRET.encode(), b"msg_1.1788264000." + BODY, hashlib.sha256).digest()
    signature = "v1," + base64.b64encode(digest).decode()
    headers = lower({"svix-id": "msg_1", "svix-timestamp": "1788264000", "svix-signature": signature})
    assert is_taken(proof, headers)
    assert not is_taken(proof, headers | {b"svix-signature": signature.lower().encode()})


@pytest.mark.parametrize("body", [b"", b"{timestamp}{method}{url}{body}", b"\xff\xfe\x00", "é".encode()])
def test_the_body_is_signed_as_it_is_whatever_is_in_it(body: bytes) -> None:
    proof = proof_with(VAPI_HMAC_PAYLOAD_FORMAT="{method}.{body}")
    assert is_taken(proof, lower({"X-Signature": mac_of(b"POST." + body)}), body)


@for_each(
    ("variable", "value"),
    [
        ("VAPI_HMAC_ALGORITHM", "sha512"),
        ("VAPI_HMAC_ENCODING", "hex"),
        ("VAPI_HMAC_PAYLOAD_FORMAT", "{timestamp}.{body}"),
        ("VAPI_HMAC_PREFIX", "sha256="),
        ("VAPI_HMAC_SIGNATURE_HEADER", "x-signature"),
        ("VAPI_HMAC_TIMESTAMP_HEADER", "x-timestamp"),
        ("VAPI_HMAC_MESSAGE_ID_HEADER", "svix-id"),
        ("VAPI_HMAC_SECRET_IS_BASE64", "0"),
    ],
)
def test_the_legacy_signature_is_off_once_hmac_is_configured(variable: str, value: str) -> None:
    assert refusal(proof_with(**{variable: value}), LEGACY) == "no secret fits"


def test_an_empty_hmac_variable_configures_nothing() -> None:
    assert is_taken(proof_with(VAPI_HMAC_PREFIX="  "), LEGACY)


def test_the_legacy_signature_is_off_once_hmac_is_configured_though_the_modes_name_it() -> None:
    proof = proof_with(VAPI_WEBHOOK_AUTH="hmac,legacy", VAPI_HMAC_ENCODING="hex")
    assert refusal(proof, LEGACY) == "no proof header"


@pytest.mark.parametrize(
    "secret",
    [
        "not base64!",
        "abc",
        "YWJj,not base64!",
        pytest.param("schlüssel"),
    ],
)
def test_a_secret_that_should_be_base64_and_is_not_stops_the_start(secret: str) -> None:
    with pytest.raises(SettingsError, match=r"^VAPI_WEBHOOK_SECRET: ") as refused:
        proof_with(VAPI_WEBHOOK_SECRET=secret, VAPI_HMAC_SECRET_IS_BASE64="1")
    assert secret not in str(refused.value)
