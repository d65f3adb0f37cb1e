"""Paths and ids that nobody means well with: 4xx in our own words, nothing stored, nothing echoed."""

from __future__ import annotations

import httpx2
import pytest

from tests.support.raw_http import ask, get
from tests.support.replica import Replica
from tests.support.vapi_sender import status_update

ODD_IDS = [
    "%00", "a%00b", "..", "%2e%2e", ".", ".hidden", "..%2f..%2fetc%2fpasswd", "a%2Fb", "%2F", "a" * 129, "a" * 60_000,
    "%C3%A9", "%F0%9F%98%80", "%ff%fe", "a%20b", "%0a", "a%0d%0ab", "a;b", "a:b", "a{b}", "*", "%25", "%", "%zz",
    "<script>alert(1)<%2Fscript>", "'%20or%201=1", "%EF%BC%8E%EF%BC%8E", "a%E2%80%AEb",
]  # fmt: skip

VALID_IDS = ["a", "_", "-", "a.b.c", "A" * 128, "0", "--help", "-1", "by-phone", "a..b"]


@pytest.mark.parametrize("odd", ODD_IDS, ids=lambda odd: odd[:30])
async def test_an_id_that_is_none_is_a_4xx_that_does_not_repeat_it(attacked: Replica, odd: str) -> None:
    answer = await ask(attacked.port, get(b"/api/v1/vapi/calls/" + odd.encode()))
    assert 400 <= answer.status < 500
    assert answer.json()["success"] is False
    assert b"script" not in answer.body


@pytest.mark.parametrize("odd", ODD_IDS[:18], ids=lambda odd: odd[:30])
async def test_an_id_that_is_none_can_be_neither_deleted_nor_waited_for(attacked: Replica, odd: str) -> None:
    target = b"/api/v1/vapi/calls/" + odd.encode()
    deleted = await ask(attacked.port, b"DELETE %b HTTP/1.1\r\nHost: test\r\n\r\n" % target)
    waited = await ask(attacked.port, get(target + b"?wait=0"))
    assert deleted.status in range(400, 500)
    assert waited.status in range(400, 500)


@pytest.mark.parametrize("call_id", VALID_IDS, ids=lambda call_id: call_id[:20])
async def test_every_id_that_the_pattern_allows_can_be_stored_and_read(
    client: httpx2.AsyncClient, call_id: str
) -> None:
    assert (await client.post("/api/v1/vapi/webhook", json=status_update("ringing", call_id))).status_code == 200
    answer = await client.get(f"/api/v1/vapi/calls/{call_id}")
    assert answer.json()["data"]["call_id"] == call_id


@pytest.mark.parametrize(
    "call_id",
    ["", ".a", "a/b", "a" * 129, "a b", "a\n", "\u0000", "é", "😀", "a\r\nb", "{a}", "a:b"],
    ids=lambda call_id: repr(call_id[:10]),
)
async def test_a_status_update_with_an_unusable_id_is_400(client: httpx2.AsyncClient, call_id: str) -> None:
    assert (await client.post("/api/v1/vapi/webhook", json=status_update("ended", call_id))).status_code == 400


@pytest.mark.parametrize(
    "target",
    [b"/%2F", b"/api/v1/vapi/../../health", b"/%2e%2e/", b"/api/v1/vapi/webhook%2F", b"/api//v1/vapi/webhook",
     b"/HEALTH", b"/api/v1/vapi/calls/", b"/api/v1/vapi/calls", b"/api/v1/vapi/calls/a/b", b"/%00", b"/health/%2e%2e",
     b"/.git/config", b"/health/live%2f"],
)  # fmt: skip
async def test_a_path_that_we_do_not_serve_is_a_4xx_as_json(attacked: Replica, target: bytes) -> None:
    answer = await ask(attacked.port, get(target))
    assert 400 <= answer.status < 500
    assert answer.json()["success"] is False
    assert answer.header("x-request-id")
    assert answer.header("cache-control") == "no-store"


@pytest.mark.parametrize("method", [b"PUT", b"PATCH", b"TRACE", b"PROPFIND", b"DELETE", b"GET"])
async def test_a_method_that_the_webhook_does_not_take_is_405(attacked: Replica, method: bytes) -> None:
    request = b"%b /api/v1/vapi/webhook HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n" % method
    answer = await ask(attacked.port, request)
    assert answer.status == 405
    assert answer.json()["success"] is False


@pytest.mark.parametrize(
    "query",
    ["wait=-1", "wait=nan", "wait=inf", "wait=1e9", "wait=", "wait=%00", "wait=٣", "wait=0x10", "wait=1&view=%ff",
     "view=", "view=FULL", "wait=1_0", "wait=%2B1"],
    ids=lambda query: query[:20],
)  # fmt: skip
async def test_a_query_that_makes_no_sense_is_400(attacked: Replica, query: str) -> None:
    answer = await ask(attacked.port, get(b"/api/v1/vapi/calls/nobody?" + httpx2.URL(f"http://h/?{query}").query))
    assert answer.status == 400


@pytest.mark.parametrize(
    "phone", ["%00", "..", "a" * 5000, "%2F", "*", "%5B%5D", "%F0%9F%98%80", "%ff", "+", "'", "%0d%0a", "%22%2C%22"]
)
async def test_an_odd_phone_number_finds_nothing_and_breaks_nothing(attacked: Replica, phone: str) -> None:
    answer = await ask(attacked.port, get(b"/api/v1/vapi/calls/by-phone/" + phone.encode()))
    assert answer.status in (200, 400, 404)
    if answer.status == 200:
        assert answer.json()["count"] == 0
