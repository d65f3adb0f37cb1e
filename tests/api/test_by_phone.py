"""The calls of a phone number: however it is written, newest first, page by page."""

from __future__ import annotations

import itertools
from urllib.parse import quote

import httpx2
import pytest

from tests.support.service_api import deliver, list_calls, new_call_id, record_of
from tests.support.vapi_sender import full_report, message, status_update

_numbers = itertools.count(18_645_560_000)


def new_number() -> str:
    return f"+{next(_numbers)}"


async def calls_of(client: httpx2.AsyncClient, number: str, count: int) -> list[str]:
    """Ids of so many new calls of the number, oldest first."""
    ids = [new_call_id() for _ in range(count)]
    for call_id in ids:
        await deliver(client, full_report(call_id, customer={"number": number}))
    return ids


async def test_a_number_nobody_called_has_no_calls(client: httpx2.AsyncClient) -> None:
    answer = await list_calls(client, new_number())
    pagination = {"limit": 10, "offset": 0, "hasMore": False}
    assert (answer.status_code, answer.json()) == (
        200,
        {"success": True, "data": [], "count": 0, "pagination": pagination},
    )


async def test_a_call_is_listed_by_its_summary(client: httpx2.AsyncClient) -> None:
    number = new_number()
    [call_id] = await calls_of(client, number, 1)
    answer = await list_calls(client, number)
    assert answer.json()["data"] == [await record_of(client, call_id, view="summary")]


@pytest.mark.parametrize(
    "written",
    ["+1 (864) 123-4567", "+18641234567", "+1.864.123.4567", "+1-864-123-4567", "sip:+18641234567@198.51.100.7"],
)
@pytest.mark.parametrize("sent", ["+18641234567", "+1 (864) 123-4567", "sip:+18641234567@198.51.100.7"])
async def test_a_number_is_found_however_it_is_written(client: httpx2.AsyncClient, written: str, sent: str) -> None:
    call_id = new_call_id()
    await deliver(client, status_update("queued", call_id, customer={"number": sent}))
    answer = await list_calls(client, quote(written, safe=""), params={"limit": "1"})
    assert answer.json()["data"][0]["call_id"] == call_id


async def test_a_plus_may_stand_for_itself_in_the_path(client: httpx2.AsyncClient) -> None:
    number = new_number()
    await calls_of(client, number, 1)
    counts = [(await list_calls(client, path)).json()["count"] for path in (number, "%2B" + number[1:])]
    assert counts == [1, 1]


async def test_without_a_plus_the_digits_are_as_they_are(client: httpx2.AsyncClient) -> None:
    number = new_number()
    await calls_of(client, number, 1)
    await calls_of(client, number[1:], 2)
    answer = await list_calls(client, number[1:])
    assert answer.json()["count"] == 2


async def test_the_user_part_of_a_sip_address_counts(client: httpx2.AsyncClient) -> None:
    number, call_id = new_number(), new_call_id()
    await deliver(client, message("hang", call_id, customer={"sipUri": f"sip:{number}@198.51.100.7"}))
    assert (await list_calls(client, number)).json()["count"] == 1


async def test_what_is_no_number_is_found_by_its_own_words(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, status_update("queued", call_id, customer={"number": "anonymous \u00e9\"'"}))
    answer = await list_calls(client, quote("anonymous \u00e9\"'", safe=""))
    assert [record["call_id"] for record in answer.json()["data"]] == [call_id]


async def test_pages_follow_each_other_newest_first(client: httpx2.AsyncClient) -> None:
    number = new_number()
    ids = await calls_of(client, number, 5)
    await deliver(client, full_report(ids[0], customer={"number": number}, cost=7, at_ms=1_788_264_009_000))
    pages = [
        (await list_calls(client, number, params={"limit": "2", "offset": str(offset)})).json()
        for offset in (0, 2, 4, 6)
    ]
    assert [page["count"] for page in pages] == [5, 5, 5, 5]
    assert [page["pagination"]["hasMore"] for page in pages] == [True, True, False, False]
    records = [record for page in pages for record in page["data"]]
    assert sorted(record["call_id"] for record in records) == sorted(ids)
    assert records[0]["call_id"] == ids[0]
    moments = [record["updated_at"] for record in records]
    assert moments == sorted(moments, reverse=True)


async def test_ten_calls_are_listed_unless_asked_otherwise(client: httpx2.AsyncClient) -> None:
    number = new_number()
    await calls_of(client, number, 12)
    answer = await list_calls(client, number)
    assert (len(answer.json()["data"]), answer.json()["count"]) == (10, 12)
    answer = await list_calls(client, number, params={"limit": "100"})
    assert len(answer.json()["data"]) == 12


@pytest.mark.parametrize(
    ("name", "value"),
    [("limit", text) for text in ("0", "101", "-1", "x", "", "1.5", "1e1", "١")]
    + [("offset", text) for text in ("-1", "x", "", "0.5", "10001", "9" * 400)],
)
async def test_limits_out_of_bounds_are_refused(client: httpx2.AsyncClient, name: str, value: str) -> None:
    answer = await list_calls(client, "+18641234567", params={name: value})
    assert (answer.status_code, answer.json()["details"][0]["path"]) == (400, name)


async def test_a_number_longer_than_any_that_is_kept_is_refused(client: httpx2.AsyncClient) -> None:
    """Its key is sent once for each bucket: 60 kB took 6 MB of the room for commands, and webhooks had to wait."""
    answer = await list_calls(client, "1" * 129)
    assert (answer.status_code, answer.json()["details"][0]["path"]) == (400, "phone")
    assert (await list_calls(client, "1" * 128)).status_code == 200


async def test_a_call_whose_number_was_corrected_is_listed_under_the_new_one_only(client: httpx2.AsyncClient) -> None:
    old, new, call_id = new_number(), new_number(), new_call_id()
    await deliver(client, status_update("queued", call_id, customer={"number": old}))
    await deliver(client, full_report(call_id, customer={"number": new}))
    counts = [(await list_calls(client, number)).json()["count"] for number in (old, new)]
    assert counts == [0, 1]
