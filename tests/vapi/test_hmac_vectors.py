"""All 48 signature vectors: algorithm x encoding x payload format x prefix x base64 key."""

from __future__ import annotations

import json
from typing import Any

from service.load_config import load_settings
from service.vapi.authentication import WebhookProof
from tests.support.for_each import for_each
from tests.support.vapi_sender import sample_bytes
from tests.support.webhook_proofs import is_taken, lower, refusal

_FILE: dict[str, Any] = json.loads(sample_bytes("hmac-vectors"))
BODY = _FILE["body_utf8"].encode()
VECTORS: list[dict[str, Any]] = _FILE["vectors"]
STAMP_S = 1_767_225_600.123
"""The timestamp that all vectors carry."""


def name_of(vector: dict[str, Any]) -> str:
    fields = ("algorithm", "signatureEncoding", "payloadFormat", "signaturePrefix", "secretIsBase64")
    return " ".join(str(vector[field]) for field in fields)


def proof_of(vector: dict[str, Any], **settings: str) -> WebhookProof:
    return WebhookProof(
        load_settings(
            {
                "VAPI_WEBHOOK_SECRET": vector["secretKey"],
                "VAPI_HMAC_ALGORITHM": vector["algorithm"],
                "VAPI_HMAC_ENCODING": vector["signatureEncoding"],
                "VAPI_HMAC_PAYLOAD_FORMAT": vector["payloadFormat"],
                "VAPI_HMAC_PREFIX": vector["signaturePrefix"],
                "VAPI_HMAC_SECRET_IS_BASE64": "1" if vector["secretIsBase64"] else "0",
                **settings,
            }
        )
    )


def flipped(signature: str) -> str:
    """One character of it changed, near the front, to another of the same alphabet."""
    at = signature.index("=") + 1 if signature.startswith("sha") else 0
    return signature[:at] + ("1" if signature[at] == "0" else "0") + signature[at + 1 :]


def test_there_are_48_vectors() -> None:
    assert len({name_of(vector) for vector in VECTORS}) == 48


@for_each("vector", VECTORS)
def test_every_documented_way_to_sign_is_understood(vector: dict[str, Any]) -> None:
    assert is_taken(proof_of(vector), lower(vector["headers"]), BODY, STAMP_S)


@for_each("vector", VECTORS)
def test_the_signature_of_another_body_is_refused(vector: dict[str, Any]) -> None:
    same_json = json.dumps(json.loads(BODY), separators=(",", ":")).encode()
    assert (
        refusal(proof_of(vector), lower(vector["headers"]), same_json, STAMP_S) == "signature does not match the body"
    )


@for_each("vector", VECTORS)
def test_a_signature_changed_in_one_character_is_refused(vector: dict[str, Any]) -> None:
    headers = vector["headers"] | {"x-signature": flipped(vector["headers"]["x-signature"])}
    assert refusal(proof_of(vector), lower(headers), BODY, STAMP_S) == "signature does not match the body"


@for_each("vector", VECTORS)
def test_a_signature_by_another_key_is_refused(vector: dict[str, Any]) -> None:
    proof = proof_of(vector, VAPI_WEBHOOK_SECRET="YW5vdGhlci1zZWNyZXQtYWx0b2dldGhlcg==")
    assert refusal(proof, lower(vector["headers"]), BODY, STAMP_S) == "signature does not match the body"


@for_each("vector", VECTORS)
def test_only_vectors_that_sign_a_timestamp_grow_old(vector: dict[str, Any]) -> None:
    an_hour_later = STAMP_S + 3600
    assert is_taken(proof_of(vector), lower(vector["headers"]), BODY, an_hour_later) is not vector["includeTimestamp"]


@for_each("vector", [vector for vector in VECTORS if vector["signaturePrefix"]])
def test_a_signature_without_its_prefix_is_refused(vector: dict[str, Any]) -> None:
    bare = vector["headers"]["x-signature"].removeprefix(vector["signaturePrefix"])
    headers = lower(vector["headers"] | {"x-signature": bare})
    assert refusal(proof_of(vector), headers, BODY, STAMP_S) == "signature lacks the configured prefix"


@for_each("vector", [vector for vector in VECTORS if vector["signatureEncoding"] == "hex"])
def test_hex_may_be_in_capitals_and_white_space_around_it_is_no_harm(vector: dict[str, Any]) -> None:
    prefix = vector["signaturePrefix"]
    digest = vector["headers"]["x-signature"].removeprefix(prefix)
    headers = lower(vector["headers"] | {"x-signature": f" {prefix}{digest.upper()} "})
    assert is_taken(proof_of(vector), headers, BODY, STAMP_S)
