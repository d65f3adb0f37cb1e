"""What a request's head is turned into: a target of one form, the same head without an offer to upgrade, an ASGI scope."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

Headers = list[tuple[bytes, bytes]]


def in_origin_form(url: bytes, headers: Headers) -> tuple[bytes, Headers]:
    """``http://host/path`` as ``/path``: its host replaces ``Host`` (RFC 9112, section 3.2.2), and its path may be empty.

    A fragment, which no client should send, is left out.
    """
    target = httptools.parse_url(url)
    url = (target.path or b"/") + (b"?" + target.query if target.query else b"")
    if target.host is None:
        return url, headers
    host = target.host if target.port is None else b"%b:%d" % (target.host, target.port)
    return url, [*(header for header in headers if header[0] != b"host"), (b"host", host)]


def head_without_offer(parser: Any, url: bytes, headers: Headers) -> bytes:
    """The head again, without ``Upgrade``: we decline by answering the request as it is (RFC 9110, section 7.8).

    httptools takes all that follows an offer for another protocol; Java's client offers h2c with every first request,
    also with one that has a body.
    """
    version = parser.get_http_version().encode()
    lines = [b"%b %b HTTP/%b\r\n" % (parser.get_method(), url, version)]
    lines += [b"%b: %b\r\n" % header for header in headers if header[0] != b"upgrade"]
    return b"".join((*lines, b"\r\n"))


def scope_of(connection: HttpToolsProtocol, method: bytes, version: str) -> Any:
    """https://asgi.readthedocs.io/en/latest/specs/www.html#http-connection-scope

    uvicorn makes one at the beginning of each head, and has httptools take the target apart: 2.5 us of a poll's 45.
    """
    raw_path, _, query = connection.url.partition(b"?")
    path = raw_path.decode("ascii")
    return {
        "type": "http",
        "asgi": {"version": connection.asgi_version, "spec_version": "2.3"},
        "http_version": version,
        "method": method.decode("ascii"),
        "scheme": connection.scheme,
        "path": unquote(path) if "%" in path else path,
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": connection.headers,
        "server": connection.server,
        "client": connection.client,
        "state": connection.app_state.copy(),
    }
