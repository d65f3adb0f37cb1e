"""Callback URLs: parsed once, strictly, and allowed only below one of ``CALLBACK_ALLOWED_PREFIXES``.

A URL that two programs could read differently is refused, so that what was checked here is what a server gets.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Iterable
from hashlib import sha256
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

LONGEST_URL: Final = 2048
"""Characters. Common servers and proxies take at least this many."""

DEFAULT_PORTS: Final = {"https": 443, "http": 80}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_ENCODED: Final = "%[0-9A-Fa-f]{2}"
_PATH_CHARACTER: Final = rf"[A-Za-z0-9._~!$&'()*+,;=:@-]|{_ENCODED}"

_URL: Final = re.compile(
    rf"(?P<scheme>[Hh][Tt][Tt][Pp][Ss]?)://(?P<host>\[[0-9A-Fa-f:.]{{2,45}}\]|[A-Za-z0-9._-]{{1,253}})"
    rf"(?P<port>:[1-9][0-9]{{0,4}})?(?P<path>(?:/(?:{_PATH_CHARACTER})*)*)(?P<query>\?(?:{_PATH_CHARACTER}|[/?])*)?"
)
"""https://www.rfc-editor.org/rfc/rfc3986#appendix-A without user part and fragment."""

_NAME: Final = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")

_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""Programs read a name whose last label is this as an IPv4 address, in one of several ways."""

_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")

_ENCODED_DELIMITER: Final = re.compile(r"%(?:2[ef5])", re.IGNORECASE)
"""An encoded dot, slash or percent sign. Some servers decode a path before, or twice."""

_AZURE: Final = ipaddress.IPv4Address("168.63.129.16")
"""Looks public, but belongs to the host of each virtual machine there and serves its agent:
https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16"""

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
"""https://www.rfc-editor.org/rfc/rfc6052#section-2.1"""
_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")
"""IPv4-compatible, deprecated: https://www.rfc-editor.org/rfc/rfc4291#section-2.5.5.1"""

PRIVATE_DOMAINS: Final = ("localhost", "local", "internal", "home.arpa", "svc")
"""Public name servers know no names below these; ``svc`` is how Kubernetes shortens its own names. https://www.rfc-editor.org/rfc/rfc6762, rfc6761, rfc8375;
https://www.icann.org/en/board-activities-and-meetings/materials/approved-resolutions-special-meeting-of-the-icann-board-29-07-2024-en"""


class CallbackUrlError(ValueError):
    """The URL is refused. The message says which rule it breaks and quotes nothing of it."""


class CallbackUrl(msgspec.Struct, frozen=True):
    """A parsed URL. Scheme and host are in lower case; ``target`` is the path and query as they were given."""

    scheme: str
    host: str
    """A name, an IPv4 address, or an IPv6 address without brackets."""
    port: int
    target: str

    def __repr__(self) -> str:
        return "CallbackUrl(***)"  # it may hold a key

    @property
    def origin(self) -> str:
        """Scheme, host and port; the port only where it is not the scheme's default."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"

    @property
    def text(self) -> str:
        """The same text for all spellings of one URL."""
        return self.origin + self.target

    @property
    def origin_tag(self) -> bytes:
        """Stands for the origin in the names of keys."""
        return sha256(self.origin.encode()).hexdigest()[:16].encode()

    @property
    def tag(self) -> bytes:
        """Stands for the URL wherever the URL itself would be seen."""
        return sha256(self.text.encode()).hexdigest()[:32].encode()

    @property
    def is_host_private(self) -> bool:
        """True for an address that is not public, and for a name that only private name servers know."""
        address = find_address(self.host)
        if address is not None:
            return not is_public(address)
        return "." not in self.host or self.host.endswith(tuple("." + domain for domain in PRIVATE_DOMAINS))


def parse_callback_url(text: str) -> CallbackUrl:
    """Raises CallbackUrlError."""
    if len(text) > LONGEST_URL:
        raise CallbackUrlError(f"must have at most {LONGEST_URL} characters")
    parts = _URL.fullmatch(text)
    if parts is None:
        raise CallbackUrlError(
            "must be an absolute http or https URL in ASCII, without user, fragment, backslash, space or control character"
        )
    scheme, path, query = parts["scheme"].lower(), parts["path"] or "/", parts["query"] or ""
    port = int(parts["port"][1:]) if parts["port"] else DEFAULT_PORTS[scheme]
    if port > 65_535:
        raise CallbackUrlError("must have a port of at most 65535")
    _check_path(path)
    if _UNSAFE.search(_decoded(query)):
        raise CallbackUrlError("must not hold an encoded control character or backslash")
    return CallbackUrl(scheme, _host(parts["host"].lower()), port, path + query)


def is_allowed(url: CallbackUrl, prefixes: Iterable[CallbackUrl]) -> bool:
    """Whether one of the prefixes has the URL's scheme, host and port, and a path that the URL's continues at a ``/``."""
    return any(
        (url.scheme, url.host, url.port) == (prefix.scheme, prefix.host, prefix.port)
        and _continues(url.target.partition("?")[0], prefix.target)
        for prefix in prefixes
    )


def find_address(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_public(address: Address) -> bool:
    """Whether packets to it leave every private network. An IPv6 address that wraps an IPv4 one is judged by that."""
    plain = unwrap(address)
    if plain == _AZURE:
        return False
    if isinstance(plain, ipaddress.IPv6Address) and (plain.is_site_local or plain.teredo is not None):
        return False
    return plain.is_global and not (plain.is_multicast or plain.is_reserved or plain.is_unspecified)


def unwrap(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for; any other address as it is."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64 or address in _COMPATIBLE:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _continues(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(prefix if prefix.endswith("/") else prefix + "/")


def _host(text: str) -> str:
    if text.startswith("["):
        try:
            return str(ipaddress.IPv6Address(text[1:-1]))
        except ValueError:
            raise CallbackUrlError("must have a valid IPv6 address as its host") from None
    if not _NAME.fullmatch(text):
        raise CallbackUrlError("must have a host name without empty labels or a dot at its end")
    if _NUMBER.fullmatch(text.rpartition(".")[2]) and find_address(text) is None:
        raise CallbackUrlError("must have a host that is not a shortened, decimal, octal or hexadecimal IPv4 address")
    return text


def _check_path(path: str) -> None:
    if _ENCODED_DELIMITER.search(path):
        raise CallbackUrlError("must not hold an encoded dot, slash or percent sign in its path")
    # The same path as a server may see it that decodes, and then replaces look-alikes such as a full-width dot.
    plain = unicodedata.normalize("NFKC", _decoded(path))
    if _UNSAFE.search(plain):
        raise CallbackUrlError("must not hold an encoded control character or backslash")
    if ".." in plain or "//" in plain or "/./" in plain + "/" or plain.count("/") != path.count("/"):
        raise CallbackUrlError("must not hold .., a segment of one dot or an empty segment in its path")


def _decoded(text: str) -> str:
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise CallbackUrlError("must hold only valid UTF-8 in its encoded characters") from None
