"""Arbitrary bytes and arbitrarily changed samples: taken or refused, and never anything else."""

from __future__ import annotations

import contextlib
import copy
import json
from typing import Any

import msgspec
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from service.errors import InvalidMessageError
from service.store.call_codec import SEPARATOR
from service.vapi.intake import Intake, change_of
from service.vapi.messages import decode_message
from service.vapi.replies import find_reply
from tests.support.message_decoding import around, refusal_of
from tests.support.vapi_sender import full_report, message, preliminary_report, sample, sample_names, status_update

FUZZ = settings(
    max_examples=300,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)

SAMPLES = [sample(name) for name in sample_names()]
SMALL_BODIES = [
    full_report(artifact={"recording": {"mono": {"combinedUrl": "https://x.example/a"}, "stereoUrl": None}}),
    full_report(artifact={"structuredOutputs": {"u": {"name": "n", "result": {"notes": ""}}}}, analysis=None),
    full_report(call={"id": "c", "metadata": {"a": 1}, "assistantOverrides": {"metadata": {"b": 2}}}),
    preliminary_report(),
    status_update("ended", endedReason="voicemail"),
    message("tool-calls", toolCallList=[{"id": "call_1"}]),
]

JSON_TEXTS = [
    *('"\\ud83d"', '"\\ude00x"', "1e308", "-0", "9007199254740993", "1" + "0" * 30, "[[[[]]]]", '{"a":{"b":{}}}'),
    *('"2026-09-01T12:00:00Z"', '"9999-12-31T23:59:59.9999999Z"', '"12"', '"1e400"', '"NaN"', '" "', '"https://[x?a"'),
    *('"sip:+18645550123@x"', '"https://x.example/a?X-Amz-Signature=1"', '{"mono":[]}', '{"u":{"name":[]}}', "true"),
]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from([json.loads(text) for text in JSON_TEXTS]),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)


def places_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*([path] if path else []), *(place for key, item in inner for place in places_in(item, (*path, key)))]


def put(body: dict[str, Any], place: tuple[Any, ...], value: object) -> None:
    target: Any = body
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value


PLACES = [places_in(body) for body in SAMPLES + SMALL_BODIES]


@st.composite
def changed_bodies(draw: st.DrawFn) -> bytes:
    """A sample or a small message, up to four of whose values are replaced by others, written as JSON."""
    index = draw(st.integers(0, len(PLACES) - 1))
    body = copy.deepcopy((SAMPLES + SMALL_BODIES)[index])
    for place in draw(st.lists(st.sampled_from(PLACES[index]), max_size=4)):
        with contextlib.suppress(KeyError, IndexError, TypeError):  # an earlier change took the place away
            put(body, place, draw(values))
    return json.dumps(body, ensure_ascii=draw(st.booleans())).encode(errors="surrogatepass")


@st.composite
def broken_texts(draw: st.DrawFn) -> bytes:
    """The JSON text of a small message with a few bytes cut out, put in or replaced."""
    text = bytearray(msgspec.json.encode(draw(st.sampled_from(SMALL_BODIES))))
    pieces = st.sampled_from([text.encode() for text in JSON_TEXTS]) | st.binary(max_size=3)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(text)))
        text[start : start + draw(st.integers(0, 4))] = draw(pieces)
    return bytes(text)


def taken(body: bytes) -> Intake | None:
    """What the service makes of a body; None when it refuses it. Anything but a refusal goes through."""
    try:
        received = decode_message(body)
        intake = change_of(received)
    except InvalidMessageError as exc:
        assert exc.status == 400
        return None
    find_reply(received.message)
    return intake


def without_token(intake: Intake | None) -> object:
    """To be compared: the token is another one each time."""
    assert intake is not None
    assert intake.change is not None
    return msgspec.structs.replace(intake.change, token=b""), intake.dropped


def assert_is_well_formed(intake: Intake | None) -> None:
    """Every fragment is JSON of valid Unicode without a separator, so that it can be stored and served as it is."""
    if intake is None or intake.change is None:
        return
    change = intake.change
    assert 0 <= change.rank <= 9
    assert 0 <= change.timestamp_ms < 10**16
    assert 0 <= change.status <= 6
    assert 0 <= change.ending <= 3
    for fragment in change.facts.known().values():
        assert SEPARATOR not in fragment
        json.dumps(json.loads(fragment), ensure_ascii=False).encode()


@given(st.binary(max_size=300))
@FUZZ
def test_arbitrary_bytes_are_refused(body: bytes) -> None:
    assert taken(body) is None


@given(broken_texts())
@FUZZ
def test_a_broken_text_is_taken_or_refused(body: bytes) -> None:
    assert_is_well_formed(taken(body))


@given(changed_bodies())
@FUZZ
def test_a_changed_message_is_taken_or_refused(body: bytes) -> None:
    assert_is_well_formed(taken(body))


@given(values)
@FUZZ
def test_a_value_in_a_field_that_nobody_reads_changes_nothing(value: object) -> None:
    body = around(json.dumps(value))
    assert refusal_of(body) is None
    assert without_token(taken(body)) == without_token(taken(around("null")))


def is_json(body: bytes) -> bool:
    """By Python's own decoder, strictly: no NaN."""

    def refuse(text: str) -> float:
        raise ValueError(text)

    try:
        json.loads(body.decode(), parse_float=float, parse_int=float, parse_constant=refuse)
    except ValueError:
        return False
    return True


@given(broken_texts())
@example(around("1e999"))
@example(around('"\x1f"'))
@example(around("01"))
@settings(FUZZ, max_examples=1500)
def test_what_is_json_is_what_other_decoders_take_for_it(body: bytes) -> None:
    refused = refusal_of(body)
    about_json = refused is not None and str(refused) != "Invalid webhook payload"
    assert about_json is not is_json(body)
