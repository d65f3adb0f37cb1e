"""Which bodies are server messages, and which of the many kinds of not-JSON are told apart from them."""

from __future__ import annotations

import pytest

from service.vapi.messages import decode_message
from tests.support.for_each import for_each
from tests.support.message_decoding import NOT_A_MESSAGE, NOT_JSON, NOT_UTF8, around, refusal_of
from tests.support.vapi_sender import sample_bytes, sample_names

WHERE = for_each("field", ["zzz", "transcript", "cost", "analysis"])
"""A field that is skipped, two whose values are kept undecoded, and one that is opened."""


@for_each("name", sample_names())
def test_every_sample_is_taken(name: str) -> None:
    assert decode_message(sample_bytes(name)).message.type


@pytest.mark.parametrize(
    "type_", ["", "hang", 'transcript[transcriptType="final"]', "a type of 2027", "ünïcode ✓", "\u0000", "x" * 100_000]
)
def test_any_type_string_is_taken(type_: str) -> None:
    text = '"' + type_.replace('"', '\\"').replace("\u0000", "\\u0000") + '"'
    assert decode_message(b'{"message":{"type":%b}}' % text.encode()).message.type == type_


@for_each(
    "body",
    [
        b"",
        b" ",
        b"\xef\xbb\xbf" + around("1"),
        around("1") + b"x",
        around("1") + around("1"),
        around("1")[:-1],
        b"message",
        b"type=x",
        b"<message/>",
        b"{'message':{'type':'x'}}",
        b'{message:{"type":"x"}}',
        b'{"message":{"type":"x"},}',
        b'{"message":{"type":"x"}/**/}',
        b'{"message":{"type":"x" "y":1}}',
        b'{"message" {"type":"x"}}',
        b"\x00",
    ],
)
def test_a_body_that_is_not_json_is_refused(body: bytes) -> None:
    refused = refusal_of(body)
    assert (str(refused), refused.status if refused else None) == (NOT_JSON, 400)


@WHERE
@for_each(
    "value",
    [
        *("NaN", "Infinity", "-Infinity", "nan", "-NaN", "undefined", "None", "True", "tru", "nul", "nulll", ""),
        *("01", "-01", "1.", ".5", "+5", "-", "--1", "1e", "1e+", "1.e5", "0x10", "1_000", "1,000", "½"),
        *("[1,]", "[1", "[1 2]", '{"a":1,}', '{"a"}', '{"a":}', "{1:2}", '{"a":1 "b":2}', "]", "}"),
        *('"a', "'a'", '"\\x41"', '"\\u12"', '"\\u12g4"', '"\\"', '"a\nb"', '"a\tb"', '"a\x1fb"', '"a\x00b"'),
    ],
)
def test_a_value_that_is_not_json_is_refused_wherever_it_stands(value: str, field: str) -> None:
    assert str(refusal_of(around(value, field))) == NOT_JSON


@WHERE
def test_a_number_beyond_a_double_is_no_reason_to_refuse_a_message(field: str) -> None:
    for value in ("1e400", "-1e400", "[0,1e999]", '{"a":[{"b":-1E+12345}]}', "9" * 5000, "1" + "0" * 120 + "e200"):
        assert refusal_of(around(value, field)) is None, value


@WHERE
@for_each(
    "value",
    [
        *("1e308", "-1.7976931348623157e308", "1e-400", "0e999", "0.0e400", "1e-99999", "9" * 308, "1" + "0" * 308),
        *("1" + "0" * 200 + "e99", "0.000001e310", "18446744073709551616", "-9223372036854775809", "-0", "1E2"),
        *('"1e400"', '": 1e400"', '"a\\"1e400"', '"' + "9" * 400 + '"', '"550e8400-e29b-41d4-a716-446655440001"'),
    ],
)
def test_a_number_within_a_double_is_taken_as_is_text_that_looks_like_one(value: str, field: str) -> None:
    assert refusal_of(around(value, field)) is None


def test_a_number_with_two_points_is_refused_also_beside_a_huge_one() -> None:
    assert str(refusal_of(around("1.2.3,1e400"))) == NOT_JSON


@pytest.mark.parametrize(
    "bad", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xed\xb8\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"caf\xe9"]
)
def test_bytes_that_are_not_utf8_are_refused_and_their_place_is_told(bad: bytes) -> None:
    refused = refusal_of(around(b'"%b"' % bad))
    assert str(refused) == NOT_UTF8
    assert refused is not None
    assert [(detail.path, detail.message[:15]) for detail in refused.details] == [("$", "invalid byte at")]


@for_each(
    ("body", "path"),
    [
        (b"5", "$"),
        (b"null", "$"),
        (b'"message"', "$"),
        (b"[]", "$"),
        (b'[{"message":{"type":"x"}}]', "$"),
        (b"{}", "$"),
        (b'{"type":"x"}', "$"),
        (b'{"Message":{"type":"x"}}', "$"),
        (b'{"message":null}', "$.message"),
        (b'{"message":[]}', "$.message"),
        (b'{"message":"x"}', "$.message"),
        (b'{"message":{}}', "$.message"),
        (b'{"message":{"type":null}}', "$.message.type"),
        (b'{"message":{"type":5}}', "$.message.type"),
        (b'{"message":{"type":true}}', "$.message.type"),
        (b'{"message":{"type":["x"]}}', "$.message.type"),
        (b'{"message":{"type":{"x":1},"call":5}}', "$.message.type"),
    ],
)
def test_json_that_is_no_server_message_is_refused_and_the_path_is_told(body: bytes, path: str) -> None:
    refused = refusal_of(body)
    assert str(refused) == NOT_A_MESSAGE
    assert refused is not None
    assert [detail.path for detail in refused.details] == [path]


@pytest.mark.parametrize("body", [b'{"message":{"type":987654321}}', around("private tru"), b'{"message":"private"}'])
def test_a_refusal_holds_no_value_of_the_body(body: bytes) -> None:
    refused = refusal_of(body)
    assert refused is not None
    said = " ".join([str(refused), *(detail.message for detail in refused.details)])
    assert "private" not in said
    assert "987654321" not in said


def test_of_a_key_that_comes_twice_the_last_counts() -> None:
    body = b'{"message":{"type":"a"},"message":{"type":"b","cost":1,"cost":2,"call":{"id":"c"},"call":{"id":"d"}}}'
    message = decode_message(body).message
    assert message.call is not None
    assert (message.type, bytes(message.cost), message.call.id) == ("b", b"2", "d")


def test_of_a_key_that_comes_twice_the_last_counts_also_where_the_first_is_odd() -> None:
    received = decode_message(b'{"message":{"type":"a","call":"x","type":"b","call":{"id":"d"}}}')
    assert received.message.call is not None
    assert (received.message.type, received.message.call.id, received.dropped) == ("b", "d", 0)


def test_keys_may_be_written_with_escapes_and_white_space_may_stand_anywhere() -> None:
    body = b' \r\n{ "mess\\u0061ge" :\t{ "\\u0074ype" : "x" , "call" : { "id" : "c" } } } \n'
    message = decode_message(body).message
    assert message.call is not None
    assert (message.type, message.call.id) == ("x", "c")
