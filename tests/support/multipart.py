"""Takes a multipart body apart, and tells fields from files as Kestra does: a file is a part with a file name."""

from __future__ import annotations

import re
from typing import NamedTuple


class Part(NamedTuple):
    name: str
    value: str
    filename: str | None = None
    content_type: str | None = None


def parts_of(content_type: str, body: bytes) -> tuple[Part, ...]:
    """The parts in their order.

    Raises:
        ValueError: the body is not what the content type says.
    """
    boundary = re.search(r'boundary="?([^";]+)"?', content_type)
    if boundary is None:
        raise ValueError("multipart without a boundary")
    before, *pieces = (b"\r\n" + body).split(b"\r\n--" + boundary[1].encode())
    if before or not pieces or pieces.pop() not in (b"--", b"--\r\n"):
        raise ValueError("a multipart body that does not begin or end as it should")
    return tuple(map(_part_of, pieces))


def _part_of(piece: bytes) -> Part:
    head, separator, value = piece.partition(b"\r\n\r\n")
    headers = head.decode()
    name = re.search(r'[ ;]name="([^"]*)"', headers)
    filename = re.search(r'[ ;]filename="([^"]*)"', headers)
    content_type = re.search(r"(?im)^content-type: *(.*?)\r?$", headers)
    if not separator or name is None:
        raise ValueError("a part without a name")
    return Part(name[1], value.decode(), filename[1] if filename else None, content_type[1] if content_type else None)
