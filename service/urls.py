"""Classifies and takes apart hosts and URLs by their form alone, without name look-ups."""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

_HOST: Final = re.compile(r"(\[(?P<v6>[0-9a-f.]*:[0-9a-f:.]*)\]|(?P<name>[^:\[\]]+))(:[0-9]*)?")
"""https://www.rfc-editor.org/rfc/rfc9110#section-7.2"""

POOL_SIZE: Final = "pool_size"
DEFAULT_POOL_SIZE: Final = 5
LARGEST_POOL_SIZE: Final = 100

OF_OTHER_CLIENTS: Final = frozenset(
    (POOL_SIZE, "pgbouncer", "connection_limit", "connect_timeout", "pool_timeout", "statement_cache_size", "gssencmode",
     "channel_binding", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count")
)  # fmt: skip
"""Parameters of a PostgreSQL URL that libpq or Prisma know. asyncpg would send them to the server as settings, which the
server would refuse."""

SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
"""https://www.postgresql.org/docs/current/libpq-ssl.html"""

_DATABASE_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]*)(:[0-9]{1,5})?")

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


def split_database_url(url: str) -> tuple[str, int]:
    """The URL without the parameters that asyncpg does not know, and its ``pool_size``: most connections of one process.

    Raises:
        ValueError: a sentence that says what is wrong with it, without quoting it.
    """
    parts = urlsplit(url)
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    size = given.get(POOL_SIZE, str(DEFAULT_POOL_SIZE))
    if not (size.isdecimal() and len(size) < 4 and 1 <= int(size) <= LARGEST_POOL_SIZE):
        raise ValueError(f"{POOL_SIZE} must be 1 to {LARGEST_POOL_SIZE}")
    if given.get("sslmode", "prefer") not in SSL_MODES:
        raise ValueError(f"sslmode must be one of {', '.join(SSL_MODES)}")
    hosts = parts.netloc.rpartition("@")[2].split(",")
    if not all(map(_DATABASE_HOST.fullmatch, hosts)):
        raise ValueError("must name hosts as host:port, separated by commas")
    known = [(name, value) for name, value in given.items() if name not in OF_OTHER_CLIENTS]
    return urlunsplit(parts._replace(query=urlencode(known))), int(size)


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
