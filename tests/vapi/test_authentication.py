"""Which requests are believed to be VAPI's: every mode on and off, rotation, and what is refused unread."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from service.errors import InvalidSignatureError
from service.headers import bearer_token
from service.load_config import load_settings
from service.vapi.authentication import WebhookProof
from tests.support.for_each import for_each
from tests.support.vapi_sender import sign
from tests.support.webhook_proofs import BODY, NOW_S, SECRET, is_taken, lower, proof_with, refusal

MODES = ("secret", "bearer", "hmac", "legacy")


def signed(secret: str = SECRET) -> dict[bytes, bytes]:
    return lower(sign(BODY, secret, timestamp=str(int(NOW_S * 1000))))


def headers_of(mode: str, secret: str = SECRET) -> dict[bytes, bytes]:
    """A request's headers that prove the secret in that mode."""
    legacy = hmac.new(secret.encode(), BODY, hashlib.sha256).hexdigest()
    return {
        "secret": lambda: lower({"X-Vapi-Secret": secret}),
        "bearer": lambda: lower({"Authorization": f"Bearer {secret}"}),
        "hmac": lambda: signed(secret),
        "legacy": lambda: lower({"X-Vapi-Signature": legacy}),
    }[mode]()


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_is_on_by_default(mode: str) -> None:
    assert is_taken(proof_with(), headers_of(mode))


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_alone_takes_its_own_proof(mode: str) -> None:
    assert is_taken(proof_with(VAPI_WEBHOOK_AUTH=mode), headers_of(mode))


def test_a_secret_that_begins_with_the_word_bearer_is_taken_as_it_is() -> None:
    secret = f"Bearer {SECRET}"
    assert is_taken(proof_with(VAPI_WEBHOOK_SECRET=secret), lower({"X-Vapi-Secret": secret}))


@for_each(("on", "tried"), [(on, tried) for on in MODES for tried in MODES if on != tried])
def test_a_mode_that_is_off_proves_nothing(on: str, tried: str) -> None:
    assert refusal(proof_with(VAPI_WEBHOOK_AUTH=on), headers_of(tried)) in {"no proof header", "no secret fits"}


@pytest.mark.parametrize("mode", MODES)
def test_a_wrong_secret_is_refused(mode: str) -> None:
    assert not is_taken(proof_with(), headers_of(mode, "another-secret"))


@for_each("mode", MODES)
@for_each("secret", ["the-old-one", "the-new-one"])
def test_two_secrets_at_once_both_prove_it(mode: str, secret: str) -> None:
    assert is_taken(proof_with(VAPI_WEBHOOK_SECRET="the-old-one, the-new-one"), headers_of(mode, secret))


@pytest.mark.parametrize("mode", MODES)
def test_a_secret_rotated_out_proves_nothing(mode: str) -> None:
    assert not is_taken(proof_with(VAPI_WEBHOOK_SECRET="the-new-one"), headers_of(mode, "the-old-one"))


@pytest.mark.parametrize("mode", MODES)
def test_the_list_of_secrets_is_no_secret_itself(mode: str) -> None:
    assert not is_taken(proof_with(VAPI_WEBHOOK_SECRET="one,two"), headers_of(mode, "one,two"))


@pytest.mark.parametrize("mode", MODES)
def test_a_secret_may_hold_any_character(mode: str) -> None:
    headers = headers_of(mode, "schlüssel ✓")
    assert is_taken(proof_with(VAPI_WEBHOOK_SECRET="schlüssel ✓"), headers)


@for_each("header", [b"x-vapi-secret", b"authorization", b"x-signature", b"x-timestamp", b"x-vapi-signature"])
@for_each("mode", MODES)
def test_header_bytes_that_are_no_text_are_refused_not_stumbled_over(mode: str, header: bytes) -> None:
    headers = {**headers_of(mode), header: b"Bearer \xff\xfe\x00\x80"}
    proven_in_another_header = header not in headers_of(mode)
    assert is_taken(proof_with(), headers) is proven_in_another_header


@pytest.mark.parametrize("headers", [{}, {b"x-timestamp": b"1788264000"}])
def test_no_proof_is_refused_before_the_body_is_read(headers: dict[bytes, bytes]) -> None:
    with pytest.raises(InvalidSignatureError, match=r"^Invalid webhook signature$") as refused:
        proof_with().verify_headers(headers, NOW_S)
    assert refused.value.reason == "no proof header"


@pytest.mark.parametrize("mode", ["secret", "bearer"])
def test_a_wrong_secret_alone_is_refused_before_the_body_is_read(mode: str) -> None:
    with pytest.raises(InvalidSignatureError) as refused:
        proof_with().verify_headers(headers_of(mode, "another-secret"), NOW_S)
    assert refused.value.reason == "no secret fits"


@pytest.mark.parametrize("mode", ["secret", "bearer"])
def test_a_secret_in_the_headers_needs_no_body(mode: str) -> None:
    assert proof_with().verify_headers(headers_of(mode), NOW_S) is None


@pytest.mark.parametrize("mode", ["hmac", "legacy"])
def test_a_signature_waits_for_the_body(mode: str) -> None:
    assert proof_with().verify_headers(headers_of(mode), NOW_S) is not None


@pytest.mark.parametrize(
    "headers",
    [
        {b"x-signature": b"0" * 64},
        {b"x-signature": b"0" * 64, b"x-timestamp": b"soon"},
        {b"x-signature": b"0" * 64, b"x-timestamp": b"%d" % (NOW_S - 301)},
        {b"x-signature": b"00", b"x-timestamp": b"%d" % NOW_S},
        {b"x-signature": b"g" * 64, b"x-timestamp": b"%d" % NOW_S},
        {b"x-vapi-signature": b"0" * 63},
        {b"x-vapi-signature": b"0" * 65},
        {b"x-vapi-signature": b"z" * 64},
        {b"x-vapi-signature": b""},
        {b"x-vapi-signature": SECRET.encode()[:-1]},
    ],
    ids=str,
)
def test_a_signature_that_no_body_could_fit_is_refused_before_the_body_is_read(headers: dict[bytes, bytes]) -> None:
    with pytest.raises(InvalidSignatureError):
        proof_with().verify_headers(headers, NOW_S)


@pytest.mark.parametrize("encoding", ["hex", "base64"])
@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
def test_a_signature_of_another_length_is_refused_before_the_body_is_read(algorithm: str, encoding: str) -> None:
    proof = proof_with(VAPI_HMAC_ALGORITHM=algorithm, VAPI_HMAC_ENCODING=encoding)
    whole = lower(sign(BODY, SECRET, algorithm=algorithm, encoding=encoding, timestamp=str(int(NOW_S))))
    assert is_taken(proof, whole)
    for sent in (whole[b"x-signature"][:-1], whole[b"x-signature"] + b"0", b"%b=" % whole[b"x-signature"]):
        with pytest.raises(InvalidSignatureError):
            proof.verify_headers(whole | {b"x-signature": sent}, NOW_S)


@pytest.mark.parametrize("wrong", ["secret", "bearer"])
@pytest.mark.parametrize("right", ["hmac", "legacy"])
def test_a_good_signature_counts_beside_a_wrong_secret(wrong: str, right: str) -> None:
    assert is_taken(proof_with(), headers_of(wrong, "another-secret") | headers_of(right))


def test_a_good_legacy_signature_counts_beside_a_wrong_one_of_the_configured_scheme() -> None:
    assert is_taken(proof_with(), headers_of("hmac", "another-secret") | headers_of("legacy"))


def test_the_signature_that_came_first_says_why_both_are_refused() -> None:
    headers = headers_of("hmac", "another-secret") | headers_of("legacy", "another-secret")
    del headers[b"x-timestamp"]
    assert refusal(proof_with(), headers) == "timestamp header missing or not a number"


def test_the_secrets_header_can_be_renamed() -> None:
    proof = proof_with(VAPI_SECRET_HEADER="X-Our-Secret")
    assert is_taken(proof, lower({"X-Our-Secret": SECRET}))
    assert not is_taken(proof, lower({"X-Vapi-Secret": SECRET}))


def test_a_legacy_signature_may_be_in_capitals() -> None:
    headers = headers_of("legacy")
    headers[b"x-vapi-signature"] = headers[b"x-vapi-signature"].upper()
    assert is_taken(proof_with(), headers)


def test_a_legacy_signature_covers_the_bytes_as_received() -> None:
    assert not is_taken(proof_with(), headers_of("legacy"), BODY + b" ")


def test_without_any_setting_everything_is_taken() -> None:
    proof = WebhookProof(load_settings({}))
    assert proof.verify_headers({}, NOW_S) is None


@for_each("token", ["API_READ_TOKENS", "API_ADMIN_TOKENS"])
@for_each("mode", MODES)
def test_with_a_token_but_no_webhook_secret_nothing_is_taken(token: str, mode: str) -> None:
    proof = WebhookProof(load_settings({token: "a-token"}))
    assert not is_taken(proof, headers_of(mode, ""))
    assert not is_taken(proof, headers_of(mode, "a-token"))


@for_each(
    ("value", "token"),
    [
        (b"Bearer abc", b"abc"),
        (b"bearer abc", b"abc"),
        (b"BEARER  abc ", b"abc"),
        (b"Bearer ", b""),
        (b"Bearer", None),
        (b"Bearerabc", None),
        (b"Basic abc", None),
        (b"abc", None),
        (b"", None),
    ],
)
def test_a_bearer_token_is_what_follows_the_scheme(value: bytes, token: bytes | None) -> None:
    assert bearer_token({b"authorization": value}) == token


def test_there_is_no_bearer_token_without_the_header() -> None:
    assert bearer_token({}) is None
