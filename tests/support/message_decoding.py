"""What the decoding tests share: bodies around one odd value, and the answer to "is it refused, and how?"."""

from __future__ import annotations

from service.errors import InvalidMessageError
from service.vapi.messages import decode_message

NOT_JSON = "The body is not valid JSON"
NOT_UTF8 = "The body is not valid UTF-8"
NOT_A_MESSAGE = "Invalid webhook payload"


def around(value: str | bytes, field: str = "zzz") -> bytes:
    """A message one of whose fields has that value, written as JSON; by default a field that nobody reads."""
    text = value.encode() if isinstance(value, str) else value
    return b'{"message":{"type":"x","%b":%b,"call":{"id":"call-1"}}}' % (field.encode(), text)


def refusal_of(body: bytes) -> InvalidMessageError | None:
    """Why the body is refused; None when it is taken."""
    try:
        decode_message(body)
    except InvalidMessageError as exc:
        return exc
    return None
