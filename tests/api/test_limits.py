"""The bounds on what strangers can cost: failures per address, addresses remembered, bytes of bodies held."""

from __future__ import annotations

import pytest

from service.api.client_address import ClientAddresses
from service.api.limits import ADDRESSES_REMEMBERED, BODIES_HELD_BYTES, BodyBudget, FailedProofs
from service.errors import TooManyRequestsError, UnavailableError
from tests.support.for_each import for_each

ADDRESSES = ClientAddresses("127.0.0.1, 10.0.0.0/8")


def scope_of(host: str | None, forwarded: str | None = None) -> dict[str, object]:
    headers = {} if forwarded is None else {b"x-forwarded-for": forwarded.encode()}
    return {"type": "http", "client": (host, 1) if host else None, "named_headers": headers}


def network_of(host: str | None, forwarded: str | None = None) -> str:
    return ADDRESSES.network_of(scope_of(host, forwarded))


def fail(proofs: FailedProofs, host: str, *, times: int = 1, at_s: float = 0.0) -> None:
    for _ in range(times):
        proofs.count(scope_of(host), at_s)


def test_thirty_failures_pass_and_the_31st_does_not() -> None:
    proofs = FailedProofs(ADDRESSES)
    fail(proofs, "198.51.100.7", times=30)
    with pytest.raises(TooManyRequestsError) as refused:
        fail(proofs, "198.51.100.7", at_s=59.0)
    assert refused.value.headers == {"Retry-After": "1"}


def test_failures_are_forgotten_after_a_minute() -> None:
    proofs = FailedProofs(ADDRESSES)
    fail(proofs, "198.51.100.7", times=30)
    fail(proofs, "198.51.100.7", times=30, at_s=60.0)
    with pytest.raises(TooManyRequestsError):
        fail(proofs, "198.51.100.7", at_s=60.5)


def test_what_was_refused_with_429_does_not_prolong_the_minute() -> None:
    proofs = FailedProofs(ADDRESSES)
    fail(proofs, "198.51.100.7", times=30)
    for _ in range(50):
        with pytest.raises(TooManyRequestsError):
            fail(proofs, "198.51.100.7", at_s=59.9)
    fail(proofs, "198.51.100.7", at_s=60.0)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("198.51.100.7", "198.51.100.8", False),
        ("::ffff:198.51.100.7", "198.51.100.7", True),
        ("::ffff:198.51.100.7", "::ffff:198.51.100.8", False),
        ("a-name", "a-name", True),
    ],
)
def test_ipv6_counts_by_64_and_ipv4_by_address(one: str, other: str, same: bool) -> None:  # noqa: FBT001
    networks = [network_of(host) for host in (one, other)]
    assert (networks[0] == networks[1]) is same


def test_a_client_without_an_address_counts_too() -> None:
    assert network_of(None) == "unknown"


@for_each(
    ("peer", "forwarded", "client"),
    [
        ("127.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("127.0.0.1", "198.51.100.1, 203.0.113.7, 10.1.2.3", "203.0.113.7"),
        ("127.0.0.1", "10.1.2.3, 10.1.2.4", "10.1.2.3"),
        ("127.0.0.1", "203.0.113.7:4711", "203.0.113.7"),
        ("127.0.0.1", "[2001:db8::1]:4711", "2001:db8::/64"),
        ("127.0.0.1", " , ", "127.0.0.1"),
        ("127.0.0.1", "nonsense", "unknown"),
        ("203.0.113.9", "203.0.113.7", "203.0.113.9"),
    ],
)
def test_only_what_trusted_proxies_wrote_is_believed(peer: str, forwarded: str, client: str) -> None:
    assert network_of(peer, forwarded) == client


def test_everybody_may_be_trusted() -> None:
    assert ClientAddresses("*").network_of(scope_of("203.0.113.9", "203.0.113.7, 203.0.113.8")) == "203.0.113.7"


def test_ten_thousand_addresses_are_remembered_the_longest_silent_forgotten_first() -> None:
    proofs = FailedProofs(ADDRESSES)
    hosts = [f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}" for i in range(ADDRESSES_REMEMBERED)]
    assert len(hosts) == 10_000
    fail(proofs, hosts[0], times=30)
    fail(proofs, hosts[1], times=30)
    for host in hosts[2:]:
        fail(proofs, host)
    with pytest.raises(TooManyRequestsError):
        fail(proofs, hosts[0])
    fail(proofs, "198.51.100.7")
    fail(proofs, hosts[1])
    with pytest.raises(TooManyRequestsError):
        fail(proofs, hosts[0])


@pytest.mark.parametrize(
    ("max_body_bytes", "limit"), [(1, BODIES_HELD_BYTES), (10**7, BODIES_HELD_BYTES), (10**8, 2 * 10**8)]
)
def test_bodies_hold_64_mib_or_twice_the_largest(max_body_bytes: int, limit: int) -> None:
    budget = BodyBudget(max_body_bytes)
    budget.take(limit)
    with pytest.raises(UnavailableError):
        budget.take(1)
    budget.give_back(1)
    budget.take(1)
