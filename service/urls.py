"""Classifies hosts and URLs by their form alone, without name look-ups."""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import quote, urlsplit

_HOST: Final = re.compile(r"(\[(?P<v6>[0-9a-f.]*:[0-9a-f:.]*)\]|(?P<name>[^:\[\]]+))(:[0-9]*)?")
"""https://www.rfc-editor.org/rfc/rfc9110#section-7.2"""

_LOOPBACK_V4: Final = ipaddress.ip_network("127.0.0.0/8")
_LOOPBACK_V6: Final = ipaddress.ip_network("::1/128")


def path_part(text: str) -> str:
    """The text quoted as one segment of a path."""
    return quote(text, safe="")


def is_http_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def is_loopback(host: str | None) -> bool:
    """True for localhost and loopback addresses; False for every other name."""
    if host is None:
        return False
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_own_host(value: bytes, own: str) -> bool:
    """Whether a ``Host`` header names this machine: localhost, a name below it, a loopback address or ``own``, any port.

    Names that need a look-up do not count, nor does ``127.1``: browsers send such addresses written out.
    """
    text = value.decode("latin-1").lower()
    parts = _HOST.fullmatch(text)
    if parts is None:
        return False
    name = parts["name"]
    if name is not None:
        name = name.removesuffix(".")
        return name in ("localhost", own.lower()) or name.endswith(".localhost") or _is_in(name, _LOOPBACK_V4)
    return parts["v6"] == own.lower().strip("[]") or _is_in(parts["v6"], _LOOPBACK_V6)


def _is_in(text: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    try:
        return ipaddress.ip_address(text) in network
    except ValueError:
        return False
