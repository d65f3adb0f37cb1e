"""Limits the size of a request's head, and what a chunked body adds to its content, before the application runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from service.errors import HeadTooLargeError, InvalidRequestError, ServiceError

MAX_HEADER_BYTES: Final = 64 * 1024
MAX_HEADERS: Final = 256

HEAD_PIECE_BYTES: Final = 4 * 1024
"""Most of a head that is parsed between two checks of its limits."""

BODY_PIECE_BYTES: Final = 16 * 1024
"""Most of a chunked body that is parsed between two checks; each small chunk costs a callback."""

LEAST_HEAD_PIECE_BYTES: Final = 16
LEAST_BODY_PIECE_BYTES: Final = 256
"""Smallest pieces that end at an empty line, so that input of nothing but line breaks gives few pieces."""


Phase = Literal["start", "head", "body"]
"""The part of a request that comes next. Not an Enum: a look-up of a member takes 0.1 us, ten times a request."""


class RequestSize:
    """Counts the bytes of one request while they are parsed, and cuts the input into pieces.

    The parser cannot stop inside its input, so a piece ends where a request may end.
    """

    __slots__ = ("_sent_bytes", "body_bytes", "head_bytes", "phase")

    def __init__(self) -> None:
        self.phase: Phase = "start"
        self.head_bytes = 0
        self._sent_bytes = 0
        self.body_bytes = 0
        """The content only, without chunk sizes, extensions and trailers."""

    def begin_body(self) -> None:
        self.phase = "body"
        self.head_bytes = self._sent_bytes = self.body_bytes = 0

    def find_error(self, url: bytes, headers: Sequence[object]) -> ServiceError | None:
        """Why the request is refused, or None. ``url`` and ``headers`` are what was parsed so far."""
        if self.phase == "body":
            if self._sent_bytes - self.body_bytes > MAX_HEADER_BYTES + self.body_bytes // 2:
                return InvalidRequestError("The body's chunks are too small, or its trailers too large")
        elif self.head_bytes > MAX_HEADER_BYTES or len(url) > MAX_HEADER_BYTES:
            return HeadTooLargeError(f"The request's headers are larger than {MAX_HEADER_BYTES} bytes")
        elif len(headers) > MAX_HEADERS:
            return HeadTooLargeError(f"The request has more than {MAX_HEADERS} headers")
        return None

    def count_piece(self, unread: bytes, start: int) -> int:
        """Count the piece that begins at ``start``; returns where it ends.

        It ends after the next empty line, which ends heads and chunks. If the body has no line break, the request and
        its body are one piece. This is so for nearly all webhooks.
        """
        is_body = self.phase == "body"
        if is_body:
            least, most = start + LEAST_BODY_PIECE_BYTES, start + BODY_PIECE_BYTES
        else:
            least, most = start + LEAST_HEAD_PIECE_BYTES, start + HEAD_PIECE_BYTES
        end, size = most, len(unread)
        if is_body and unread.find(b"\r", start) < 0:
            end = size
        elif (empty_line := unread.find(b"\r\n\r\n", least - 4, most)) >= 0:
            end = empty_line + 4
            if end < size and unread.find(b"\r", end) < 0:
                end = size
        end = min(end, size)
        if is_body:
            self._sent_bytes += end - start
        else:
            self.head_bytes += min(end - start, HEAD_PIECE_BYTES)  # the rest is part of the body
        return end
