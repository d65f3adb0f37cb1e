"""A callback's host is looked up once, and leads nowhere that the operator did not mean."""

from __future__ import annotations

import asyncio
import ipaddress
import threading

import pytest

from service.callback_url import Address, parse_callback_url
from service.errors import UpstreamError
from service.name_lookup import MOST_ADDRESSES, MOST_LOOKUPS, NameLookup
from tests.support.for_each import for_each

PUBLIC, PRIVATE = "https://hooks.example.com/", "http://kestra:8080/"


def answering(*addresses: str) -> NameLookup:
    """Name servers that know these addresses for every host."""
    return NameLookup(lambda _host, _port: [ipaddress.ip_address(address) for address in addresses])


async def found(url: str, *addresses: str) -> list[str]:
    return await answering(*addresses).find_addresses(parse_callback_url(url))


@for_each(
    ("url", "addresses"),
    [
        (PUBLIC, ("8.8.8.8", "2606:4700::1")),
        (PRIVATE, ("10.0.0.7",)),
        (PRIVATE, ("127.0.0.1", "::1")),
        (PRIVATE, ("8.8.8.8",)),
        ("https://kestra.flows.svc.cluster.local/", ("fd00::7",)),
    ],
)
async def test_a_host_leads_where_its_name_says(url: str, addresses: tuple[str, ...]) -> None:
    assert await found(url, *addresses) == [*addresses]


@for_each(
    ("url", "addresses"),
    [
        (PUBLIC, ()),
        (PUBLIC, ("127.0.0.1",)),
        (PUBLIC, ("8.8.8.8", "10.0.0.1")),
        (PUBLIC, ("8.8.8.8", "::ffff:10.0.0.1")),
        (PUBLIC, ("169.254.169.254",)),
        (PUBLIC, ("fe80::1%1",)),
        (PUBLIC, ("0.0.0.0",)),
        (PRIVATE, ("169.254.169.254",)),
        (PRIVATE, ("::ffff:169.254.169.254",)),
        (PRIVATE, ("10.0.0.1", "224.0.0.1")),
        (PRIVATE, ("::",)),
    ],
)
async def test_a_host_that_leads_elsewhere_is_not_asked(url: str, addresses: tuple[str, ...]) -> None:
    with pytest.raises(UpstreamError, match="host of the callback"):
        await found(url, *addresses)


async def test_an_address_that_the_operator_wrote_is_not_looked_up() -> None:
    for text in ("http://10.0.0.7/", "http://[::1]/", "http://169.254.1.1/"):
        url = parse_callback_url(text)
        assert await answering("8.8.8.8").find_addresses(url) == [url.host]


async def test_this_machine_knows_localhost_and_no_name_of_an_invalid_domain() -> None:
    lookup = NameLookup()
    assert set(await lookup.find_addresses(parse_callback_url("http://localhost:1/"))) <= {"127.0.0.1", "::1"}
    with pytest.raises(UpstreamError, match="unknown"):
        await lookup.find_addresses(parse_callback_url(f"https://{'a' * 63}.invalid/"))


async def test_a_long_list_of_addresses_is_cut() -> None:
    assert len(await found(PUBLIC, *(f"8.8.8.{number}" for number in range(20)))) == MOST_ADDRESSES


async def test_name_servers_that_hang_occupy_few_threads_and_none_that_the_process_waits_for() -> None:
    go_on = threading.Event()

    def hang(_host: str, _port: int) -> list[Address]:
        assert threading.current_thread().daemon
        go_on.wait()
        return [ipaddress.ip_address("8.8.8.8")]

    lookup, url = NameLookup(hang), parse_callback_url(PUBLIC)
    given_up = [asyncio.create_task(lookup.find_addresses(url)) for _ in range(MOST_LOOKUPS)]
    await asyncio.sleep(0)
    with pytest.raises(UpstreamError, match="do not answer"):
        await lookup.find_addresses(url)
    given_up[0].cancel()
    go_on.set()
    assert await given_up[1] == ["8.8.8.8"]
    assert await lookup.find_addresses(url) == ["8.8.8.8"]
