r"""Lone UTF-16 surrogate escapes: VAPI cuts texts by length, through the middle of an emoji (``\ud83d``)."""

from __future__ import annotations

import msgspec
import pytest

from service.vapi.intake import change_of
from service.vapi.json_checks import replace_lone_surrogates
from service.vapi.messages import decode_message
from tests.support.for_each import for_each
from tests.support.message_decoding import around, refusal_of

LONE = [
    r"\ud83d",
    r"\uD83D",
    r"\ude00",
    r"\uDFFF",
    r"\ud800",
    r"\udbff",
    r"\udc00",
    r"\ude00\ud83d",
    r"\ud83d\ud83d",
    r"\ude00\ude00",
    r"\ud83d\u0041",
    r"\ud83d\n",
    r"\ud83d ude00",
    r"\ud83d\\ude00",
    r"\\\ud83d",
    r"\ud83d\ud83d\ude00\ude00",
]

MENDED = [
    ("", ""),
    ("plain", "plain"),
    (r"\ud83d", "\ufffd"),
    (r"\uDE00", "\ufffd"),
    (r"a\ud83db", "a\ufffdb"),
    (r"\ude00\ud83d", "\ufffd\ufffd"),
    (r"\ud83d\ud83d\ude00", "\ufffd😀"),
    (r"\ud83d\ude00\ude00", "😀\ufffd"),
    (r"\ud83d\\ude00", "\ufffd\\ude00"),
    (r"\ud83d\u0041", "\ufffdA"),
    (r"\\\ud83d", "\\\ufffd"),
]


@for_each("text", LONE)
@for_each("field", ["zzz", "transcript", "analysis", "artifact"])
def test_a_lone_surrogate_is_never_refused(text: str, field: str) -> None:
    value = f'"{text}"' if field in {"zzz", "transcript"} else f'{{"summary":"{text}","transcript":"{text}"}}'
    assert refusal_of(around(value, field)) is None


@for_each("text", LONE)
@for_each(
    "body",
    [
        '{"message":{"type":"TEXT"}}',
        '{"message":{"type":"x","TEXT":1}}',
        '{"TEXT":1,"message":{"type":"x"}}',
        '{"message":{"type":"x","call":{"id":"c","metadata":{"TEXT":"TEXT"}}}}',
        '{"message":{"type":"x","transcript":"TEXT","analysis":"odd"}}',
    ],
)
def test_a_lone_surrogate_may_stand_in_the_type_in_keys_and_before_an_odd_field(text: str, body: str) -> None:
    assert refusal_of(body.replace("TEXT", text).encode()) is None


@for_each("text", [r"\ud83d", r"\ude00", r"\ud83d\u0041"])
@for_each("odd", ['"call":"odd"', '"analysis":[]', '"artifact":5', '"call":{"id":"c","customer":"odd"}'])
def test_a_lone_surrogate_after_an_odd_field_is_not_refused(text: str, odd: str) -> None:
    body = b'{"message":{"type":"x",%b,"transcript":"%b"}}' % (odd.encode(), text.encode())
    assert refusal_of(body) is None


@for_each(("text", "mended"), MENDED)
def test_a_lone_surrogate_becomes_the_replacement_character(text: str, mended: str) -> None:
    body = around(f'"{text}"', "transcript")
    message = decode_message(body).message
    assert msgspec.json.decode(bytes(message.transcript)) == mended


@pytest.mark.parametrize(
    "text", [r"\ud83d\ude00", r"\\ud83d", r"\\\\ud83d", r"\ud7ff", r"\ue000", r"\uFFFD", r"\\\"ud83d"]
)
def test_what_is_no_lone_surrogate_stays_as_it_is(text: str) -> None:
    body = around(f'"{text}"', "transcript")
    assert replace_lone_surrogates(body) == body
    assert bytes(decode_message(body).message.transcript) == f'"{text}"'.encode()


@for_each("text", LONE)
def test_all_facts_of_a_message_with_lone_surrogates_are_valid_unicode(text: str) -> None:
    body = (
        '{"message":{"type":"end-of-call-report","endedReason":"TEXT","transcript":"TEXT","messages":["TEXT"],'
        '"recordingUrl":"TEXT","analysis":{"summary":"TEXT","structuredData":{"TEXT":"TEXT"}},'
        '"artifact":{"structuredOutputs":{"TEXT":{"name":"TEXT","result":{"TEXT":"TEXT"}}}},'
        '"customer":{"number":"TEXT","sipUri":"TEXT"},'
        '"call":{"id":"c","assistantId":"TEXT","metadata":{"providerName":"TEXT"},'
        '"assistantOverrides":{"metadata":{"TEXT":"TEXT"},"variableValues":{"location":"TEXT"}}}}}'
    )
    change = change_of(decode_message(body.replace("TEXT", text).encode())).change
    assert change is not None
    for fact in change.facts.known().values():
        str(msgspec.json.decode(fact)).encode()


@pytest.mark.parametrize("call_id", [r"\ud83d", r"call-\ude00"])
def test_a_lone_surrogate_makes_no_call_id(call_id: str) -> None:
    body = b'{"message":{"type":"x","call":{"id":"%b"}}}' % call_id.encode()
    assert change_of(decode_message(body)).change is None
