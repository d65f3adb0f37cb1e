"""Finds a request's client address: the peer's, or the one reported by the proxies in ``FORWARDED_ALLOW_IPS``.

It is computed only when needed (failed proofs, rate limit, body budgets), not for every request.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Final

from starlette.types import Scope

ANYBODY: Final = "*"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ClientAddresses:
    """Reads ``X-Forwarded-For`` from the right, as long as the proxy that wrote each part is trusted."""

    def __init__(self, trusted: str) -> None:
        """``trusted``: addresses and networks, separated by commas; ``*`` trusts all."""
        names = [name.strip() for name in trusted.split(",") if name.strip()]
        self._trusts_all = ANYBODY in names
        self._networks: list[Network] = [ipaddress.ip_network(name, strict=False) for name in names if name != ANYBODY]

    def network_of(self, scope: Scope) -> str:
        """The client's IPv4 address, or the /64 of its IPv6 address, since one customer usually has a whole /64."""
        address = _parse(self._client_of(scope))
        if address is None:
            return "unknown"
        if isinstance(address, ipaddress.IPv6Address):
            return str(ipaddress.ip_network((address, 64), strict=False))
        return str(address)

    def _client_of(self, scope: Scope) -> str:
        peer: str = scope["client"][0] if scope.get("client") else ""
        headers: Mapping[bytes, bytes] = scope["named_headers"]
        if b"x-forwarded-for" not in headers or not self._is_trusted(peer):
            return peer
        hops = [hop.strip() for hop in headers[b"x-forwarded-for"].decode("latin-1").split(",") if hop.strip()]
        for hop in reversed(hops):
            if not self._is_trusted(hop):
                return hop
        return hops[0] if hops else peer

    def _is_trusted(self, host: str) -> bool:
        if self._trusts_all:
            return True
        address = _parse(host)
        return address is not None and any(address in network for network in self._networks)


def _parse(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address, with a port or without (``203.0.113.7:1234``, ``[2001:db8::1]:1234``); None for anything else."""
    text = host.partition("]")[0].lstrip("[") if host.startswith("[") else host
    if text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
