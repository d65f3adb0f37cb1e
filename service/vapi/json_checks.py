"""Checks for bad UTF-8, which msgspec does not see in skipped parts of a JSON text, and repairs lone surrogates."""

from __future__ import annotations

import re
from typing import Final

from service.errors import Detail, InvalidMessageError


class NotJSONError(InvalidMessageError):
    """The body is not JSON that we accept. ``reason`` says why, without quoting the body."""

    def __init__(self, reason: str) -> None:
        super().__init__("The body is not valid JSON", details=(Detail("$", reason),))


TOO_DEEP: Final = "nested too deeply"
"""msgspec gives up between 990 and 5,000 levels, depending on the Python version."""


def check_utf8(body: bytes) -> None:
    """Raises InvalidMessageError with the position of the first bad byte."""
    if body.isascii():
        return
    try:
        body.decode()
    except UnicodeDecodeError as exc:
        detail = Detail("$", f"invalid byte at {exc.start}")
        raise InvalidMessageError("The body is not valid UTF-8", details=(detail,)) from None


_SURROGATE_ESCAPE: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a pair: stays
    rb"|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"  # half a pair: replaced
    rb"|\\."  # any other escape, so that an escaped backslash before a u is not taken for one
)


def replace_lone_surrogates(body: bytes) -> bytes:
    r"""The same JSON text with every unpaired UTF-16 surrogate escape (``\ud83d``) replaced by ``\ufffd``."""
    mended = bytearray(body)
    for found in _SURROGATE_ESCAPE.finditer(body):
        if found.end() - found.start() == 6:
            mended[found.start() : found.end()] = rb"\ufffd"
    return bytes(mended)
