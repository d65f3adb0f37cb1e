"""Every parser of what strangers write, fed anything: it answers or refuses in our words, it never breaks.

Bodies are in tests/vapi/test_fuzz.py.
"""

from __future__ import annotations

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from service.api.client_address import ClientAddresses
from service.api.poll_request import read_poll_request
from service.calls.phone import is_e164, mask_phone, normalize_phone
from service.config import Settings, variable_of
from service.errors import InvalidRequestError, InvalidSignatureError, SettingsError
from service.headers import REQUEST_ID, by_name, request_id_of
from service.load_config import load_settings
from service.vapi.authentication import WebhookProof

FUZZ = settings(max_examples=300, derandomize=True)

PREFIX = "/api/v1/vapi/calls/"
PROOF_HEADERS = [b"x-vapi-secret", b"authorization", b"x-signature", b"x-timestamp", b"x-vapi-signature", b"svix-id"]

values = st.one_of(st.binary(max_size=40), st.text(max_size=20).map(lambda text: text.encode("utf-8", "replace")))
queries = st.one_of(
    st.binary(max_size=60),
    st.builds(
        lambda wait, view: f"wait={wait}&view={view}".encode("utf-8", "replace"),
        st.text(max_size=12),
        st.text(max_size=8),
    ),
)


@FUZZ
@given(st.text(max_size=150), queries, values, values)
def test_a_poll_is_understood_or_refused(call_id: str, query: bytes, prefer: bytes, match: bytes) -> None:
    headers = {b"prefer": prefer, b"if-none-match": match}
    scope = {"path": PREFIX + call_id, "query_string": query, "named_headers": headers}
    with contextlib.suppress(InvalidRequestError):
        poll = read_poll_request(scope, PREFIX, 25.0)
        assert poll.wait_s is None or 0 <= poll.wait_s <= 25.0
        assert poll.view in ("full", "summary")


@FUZZ
@given(st.dictionaries(st.sampled_from(PROOF_HEADERS), values), st.binary(max_size=60), st.floats())
def test_a_proof_is_accepted_or_refused(headers: dict[bytes, bytes], body: bytes, now_s: float) -> None:
    proof = WebhookProof(load_settings({"VAPI_WEBHOOK_SECRET": "not-a-secret-test-key"}))
    with contextlib.suppress(InvalidSignatureError):
        if (check := proof.verify_headers(headers, now_s)) is not None:
            check.add(body)
            check.verify()
        assert b"not-a-secret-test-key" in b"".join(headers.values())


@FUZZ
@given(st.text(max_size=50), values)
def test_every_client_has_an_address(peer: str, forwarded: bytes) -> None:
    scope = {"client": (peer, 1), "named_headers": {b"x-forwarded-for": forwarded}}
    for trusted in ("127.0.0.1", "*"):
        assert ClientAddresses(trusted).network_of(scope)


@FUZZ
@given(st.text(max_size=60))
def test_a_phone_number_stays_the_same_when_it_is_normalised_again(number: str) -> None:
    once = normalize_phone(number)
    if is_e164(once):
        assert normalize_phone(once) == once
    assert len(mask_phone(once)) <= 12


@FUZZ
@given(st.lists(st.tuples(st.sampled_from([b"x-request-id", b"accept"]), values), max_size=5))
def test_every_request_has_an_id_that_is_safe_to_log(headers: list[tuple[bytes, bytes]]) -> None:
    assert REQUEST_ID.fullmatch(request_id_of(by_name(headers)))


@FUZZ
@given(st.sampled_from([variable_of(name) for name in Settings.__struct_fields__]), st.text(max_size=30))
def test_a_setting_is_taken_or_refused_in_one_line_that_names_it(variable: str, value: str) -> None:
    try:
        load_settings({variable: value})
    except SettingsError as exc:
        assert "\n" not in str(exc)
        assert str(exc).split(":")[0].isupper()
