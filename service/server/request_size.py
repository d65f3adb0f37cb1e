"""How large a request may be before the application sees it: its head, and whatever a chunked body has beside the body."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from service.errors import HeadTooLargeError, InvalidRequestError, ServiceError

MAX_HEADER_BYTES: Final = 64 * 1024
MAX_HEADERS: Final = 256

HEAD_PIECE_BYTES: Final = 4 * 1024
"""Most of a head that is parsed before its bounds are looked at again."""

BODY_PIECE_BYTES: Final = 16 * 1024
"""The same of a body that may be many small chunks, each of which costs a callback."""

LEAST_HEAD_PIECE_BYTES: Final = 16
LEAST_BODY_PIECE_BYTES: Final = 256
"""A piece ends with an empty line, but not before so many bytes: a read of nothing but line breaks is few pieces."""


Phase = Literal["start", "head", "body"]
"""What of a request comes next. Words, because a member of an Enum takes 0.1 us to look up, ten times a request."""


class RequestSize:
    """Counts the bytes of one request as they are parsed, and cuts what was read into pieces.

    The parser cannot be stopped within what it is given. A piece therefore ends where a request may end.
    """

    __slots__ = ("_sent_bytes", "body_bytes", "head_bytes", "phase")

    def __init__(self) -> None:
        self.phase: Phase = "start"
        self.head_bytes = 0
        self._sent_bytes = 0
        self.body_bytes = 0
        """Without what chunks, their extensions and trailers add."""

    def begin_body(self) -> None:
        self.phase = "body"
        self.head_bytes = self._sent_bytes = self.body_bytes = 0

    def add(self, piece: bytes) -> None:
        if self.phase == "body":
            self._sent_bytes += len(piece)
        else:
            self.head_bytes += min(len(piece), HEAD_PIECE_BYTES)  # what is beyond is of the body

    def find_error(self, url: bytes, headers: Sequence[object]) -> ServiceError | None:
        """Why the request is refused; ``url`` and ``headers`` are what was parsed so far."""
        if self.phase == "body":
            if self._sent_bytes - self.body_bytes > MAX_HEADER_BYTES + self.body_bytes // 2:
                return InvalidRequestError("The body's chunks are too small, or its trailers too large")
        elif self.head_bytes > MAX_HEADER_BYTES or len(url) > MAX_HEADER_BYTES:
            return HeadTooLargeError(f"The request's headers are larger than {MAX_HEADER_BYTES} bytes")
        elif len(headers) > MAX_HEADERS:
            return HeadTooLargeError(f"The request has more than {MAX_HEADERS} headers")
        return None

    def end_of_piece(self, unread: bytes, start: int) -> int:
        """Where to stop parsing for a look at the bounds: behind the next empty line, which ends heads and chunks.

        A request whose body holds no line break is one piece with it: so are nearly all webhooks.
        """
        if self.phase != "body":
            least, most = start + LEAST_HEAD_PIECE_BYTES, start + HEAD_PIECE_BYTES
        elif unread.find(b"\r", start) < 0:
            return len(unread)
        else:
            least, most = start + LEAST_BODY_PIECE_BYTES, start + BODY_PIECE_BYTES
        end = unread.find(b"\r\n\r\n", least - 4, most)
        if end < 0:
            return min(most, len(unread))
        return end + 4 if unread.find(b"\r", end + 4) >= 0 else len(unread)
