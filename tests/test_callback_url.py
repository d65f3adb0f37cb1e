"""A callback URL is read strictly, and is allowed only below the operator's prefixes, however it is spelled."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.callback_url import (
    LONGEST_URL,
    CallbackUrl,
    CallbackUrlError,
    is_allowed,
    is_public,
    parse_callback_url,
)

PREFIXES = [
    parse_callback_url(prefix)
    for prefix in (
        "https://good.example/hooks",
        "https://slash.example/hooks/",
        "https://whole.example",
        "https://port.example:8443/",
        "http://kestra:8080/api/v1/main/executions/webhook/",
        "https://203.0.113.7/",
        "https://[2001:db8::7]/",
        "https://xn--bcher-kva.example/",
    )
]

ALLOWED = [
    "https://good.example/hooks",
    "https://good.example/hooks/",
    "https://good.example/hooks/a/b.json?key=a%2Fb&x=..%2e",
    "https://good.example:443/hooks/1",
    "HTTPS://GOOD.Example/hooks/1",
    "https://good.example/hooks/a%20b@c;d=e,f:(g)!$&'*+~",
    "https://slash.example/hooks/x",
    "https://whole.example",
    "https://whole.example/",
    "https://whole.example?x=1",
    "https://whole.example/any/where",
    "https://port.example:8443/x",
    "http://kestra:8080/api/v1/main/executions/webhook/ai_concierge/on_call_finished/a-key",
    "https://203.0.113.7/x",
    "https://[2001:DB8:0:0::7]/x",
    "https://xn--bcher-kva.example/x",
]

ATTACKS = [
    # hosts that only look like the allowed one
    "https://good.example.evil.com/hooks/",
    "https://good.example@evil.com/hooks/",
    "https://good.example:443@evil.com/hooks/",
    "https://user:password@good.example/hooks/",
    "https://@good.example/hooks/",
    "https://evil.com/good.example/hooks/",
    "https://evilgood.example/hooks/",
    "https://good.example./hooks/",
    "https://good.example:444/hooks/",
    "https://good.example:0443/hooks/",
    "https://good.example:/hooks/",
    "https://good.example:99999/hooks/",
    "https://good.example:0/hooks/",
    "https://good.example:-1/hooks/",
    "https://good.example:\u0664\u0664\u0663/hooks/",
    "https://good.example%2eevil.com/hooks/",
    "https://good.example\\.evil.com/hooks/",
    "https://evil.com\\@good.example/hooks/",
    "https://evil.com#@good.example/hooks/",
    "https://evil.com?@good.example/hooks/",
    "https:///good.example/hooks/",
    "https:/good.example/hooks/",
    "https:good.example/hooks/",
    "//good.example/hooks/",
    "http://good.example/hooks/",
    "http://good.example:443/hooks/",
    "ftp://good.example/hooks/",
    "file:///hooks/",
    "javascript://good.example/hooks/",
    "https://\uff47ood.example/hooks/",
    "https://good\u3002example/hooks/",
    "https://good\uff0eexample/hooks/",
    "https://g\u043eod.example/hooks/",
    "https://b\u00fccher.example/",
    "https://-good.example/hooks/",
    "https://good..example/hooks/",
    "https://.good.example/hooks/",
    "https://[good.example]/hooks/",
    # paths that leave the prefix
    "https://good.example/",
    "https://good.example/hook",
    "https://good.example/hooksy/x",
    "https://good.example/hooks;a/x",
    "https://good.example/HOOKS/x",
    "https://good.example/%68ooks/x",
    "https://good.example?/hooks/",
    "https://good.example/hooks/../admin",
    "https://good.example/hooks/..",
    "https://good.example/hooks/..;/admin",
    "https://good.example/hooks/%2e%2e/admin",
    "https://good.example/hooks/.%2E/admin",
    "https://good.example/hooks/%252e%252e/admin",
    "https://good.example/hooks/..%2fadmin",
    "https://good.example/hooks%2f..%2fadmin",
    "https://good.example/hooks/%5c..%5cadmin",
    "https://good.example/hooks\\..\\admin",
    "https://good.example/hooks/%c0%ae%c0%ae/admin",
    "https://good.example/hooks/%ef%bc%8e%ef%bc%8e/admin",
    "https://good.example/hooks/a%ef%bc%8fb",
    "https://good.example/hooks/\u2025/admin",
    "https://good.example/hooks/./x",
    "https://good.example/hooks//x",
    "https://good.example//hooks/x",
    "https://whole.example//evil.com/x",
    "https://slash.example/hooks",
    # what is cut out, cut off or split on the way
    " https://good.example/hooks/",
    "https://good.example/hooks/ ",
    "https://good.example/hooks/\n",
    "https://good.example/ho\noks/",
    "ht\ttps://good.example/hooks/",
    "https://good.exam\tple/hooks/",
    "https://good.example/hooks/\r\nHost: evil.com",
    "https://good.example/hooks/%0d%0aX: y",
    "https://good.example/hooks/%0d%0aX:y",
    "https://good.example/hooks/?x=%0d%0ay",
    "https://good.example/hooks/?x=%00",
    "https://good.example/hooks/%00",
    "https://good.example/hooks/\x00",
    "https://good.example/hooks/\x7f",
    "https://good.example/hooks/%c2%85",
    "https://good.example/hooks/#fragment",
    "https://good.example/hooks/%",
    "https://good.example/hooks/%4",
    "https://good.example/hooks/%gg",
    "https://good.example/hooks/<x>",
    'https://good.example/hooks/"x"',
    "https://good.example/hooks/{x}",
    "https://good.example/hooks/|x",
    "https://good.example/hooks/\u00e9",
    "https://good.example/hooks/" + "a" * LONGEST_URL,
    "https://" + "a" * 64 + ".example/",
    "",
    "https://",
    # other spellings of addresses
    "https://3405803783/x",
    "https://0313.0.0161.07/x",
    "https://203.0.113.07/x",
    "https://0xcb007107/x",
    "https://0xcb.0.0x71.7/x",
    "https://203.0.28935/x",
    "https://203.0.113/x",
    "https://203.0.113.7./x",
    "https://203.0.113.\u0667/x",
    "https://[::ffff:203.0.113.7]/x",
    "https://[::203.0.113.7]/x",
    "https://[2001:db8::7%25eth0]/x",
    "https://[2001:db8::7%eth0]/x",
    "https://[2001:db8::8]/x",
    "https://[2001:db8:::7]/x",
    "https://2001:db8::7/x",
    "https://[]/x",
]  # fmt: skip

PUBLIC = ["8.8.8.8", "2606:4700::1", "::ffff:8.8.8.8", "2002:808:808::1", "64:ff9b::808:808"]

NOT_PUBLIC = ["168.63.129.16",
    "127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "0.0.0.1",
    "100.64.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "::", "::1", "fe80::1", "fe80::1%1", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1", "2001::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:0:10.0.0.1", "::10.0.0.1", "2002:7f00:1::", "2002:a00:1::1",
    "64:ff9b::10.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::8.8.8.8", "100::1", "5f00::1",
]  # fmt: skip


def is_taken(text: str) -> bool:
    try:
        return is_allowed(parse_callback_url(text), PREFIXES)
    except CallbackUrlError:
        return False


def test_urls_below_a_prefix_are_allowed() -> None:
    assert [url for url in ALLOWED if not is_taken(url)] == []


def test_no_other_url_is_allowed_however_like_one_it_looks() -> None:
    assert [url for url in ATTACKS if is_taken(url)] == []


def test_the_reason_of_a_refusal_quotes_nothing_of_the_url() -> None:
    reasons = set()
    for url in ATTACKS:
        try:
            parse_callback_url(url.replace("good", "canary").replace("x", "canary"))
        except CallbackUrlError as exc:
            reasons.add(str(exc))
    assert len(reasons) > 5
    assert [reason for reason in reasons if "canary" in reason or not reason.startswith("must ")] == []


def test_all_spellings_of_a_url_are_one_and_its_path_and_query_stay_as_they_are() -> None:
    one, other = (
        parse_callback_url(url) for url in ("HTTPS://A.example:443/X%2a?Y=%2F", "https://a.example/X%2a?Y=%2F")
    )
    assert one == other
    assert (one.text, one.tag, one.target) == ("https://a.example/X%2a?Y=%2F", other.tag, "/X%2a?Y=%2F")
    assert parse_callback_url("https://a.example/x%2A").tag != one.tag
    assert parse_callback_url("https://[2001:DB8::7]:8443").text == "https://[2001:db8::7]:8443/"


def test_neither_the_url_nor_its_host_is_in_its_representation() -> None:
    assert "good" not in repr(parse_callback_url("https://good.example/hooks"))


@pytest.mark.parametrize(("addresses", "expected"), [(PUBLIC, True), (NOT_PUBLIC, False)])
def test_an_address_is_public_only_where_packets_to_it_leave_every_private_network(
    addresses: list[str], *, expected: bool
) -> None:
    assert [one for one in addresses if is_public(ipaddress.ip_address(one)) is not expected] == []


def test_a_host_is_private_when_it_is_a_private_address_or_no_public_name_server_knows_it() -> None:
    private = [
        "kestra",
        "localhost",
        "a.localhost",
        "kestra.internal",
        "kestra.default.svc.cluster.local",
        "10.0.0.1",
        "[::1]",
    ]
    public = ["kestra.example.com", "internal.example", "local.com", "8.8.8.8", "[2606:4700::1]"]
    hosts = {host: parse_callback_url(f"https://{host}/").is_host_private for host in (*private, *public)}
    assert hosts == dict.fromkeys(private, True) | dict.fromkeys(public, False)


@given(st.text(alphabet="good.exampl:/@\\?#%2eEfF0\t 1[]", max_size=40))
def test_whatever_follows_an_allowed_host_keeps_it(tail: str) -> None:
    try:
        url = parse_callback_url("https://good.example" + tail)
    except CallbackUrlError:
        return
    if is_allowed(url, PREFIXES):
        assert (url.host, url.port) == ("good.example", 443)
        assert url.target.partition("?")[0].partition("/hooks")[0] == ""


def test_a_url_that_was_taken_is_read_the_same_again() -> None:
    for text in ALLOWED:
        url = parse_callback_url(text)
        assert parse_callback_url(url.text) == url
        assert isinstance(url, CallbackUrl)
