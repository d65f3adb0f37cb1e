"""ETag and If-None-Match: when a copy is still right, and how long a waiting poll waits for it not to be."""

from __future__ import annotations

import httpx2
import pytest

from tests.support.routes import CALLS
from tests.support.service_api import deliver, new_call_id, parked_poll, poll_at_once
from tests.support.vapi_sender import full_report, preliminary_report, status_update


async def etag_of(client: httpx2.AsyncClient, call_id: str, **query: str) -> str:
    return (await client.get(CALLS + call_id, params=query)).headers["etag"]


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', '{},"other"', "*"])
async def test_an_unchanged_record_is_304_without_a_body(client: httpx2.AsyncClient, form: str) -> None:
    call_id = new_call_id()
    await deliver(client, status_update("queued", call_id))
    etag = await etag_of(client, call_id)
    answer = await client.get(CALLS + call_id, headers={"If-None-Match": form.format(etag)})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)


async def test_a_changed_record_is_sent_again(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, status_update("queued", call_id))
    etag = await etag_of(client, call_id)
    await deliver(client, status_update("ringing", call_id))
    answer = await client.get(CALLS + call_id, headers={"If-None-Match": etag})
    assert answer.status_code == 200
    assert answer.headers["etag"] != etag


async def test_a_message_that_changes_nothing_leaves_the_etag(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, status_update("queued", call_id))
    etag = await etag_of(client, call_id)
    await deliver(client, status_update("queued", call_id))
    assert await etag_of(client, call_id) == etag


async def test_the_two_views_have_etags_of_their_own(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, full_report(call_id))
    etag = await etag_of(client, call_id)
    answer = await client.get(CALLS + call_id, params={"view": "summary"}, headers={"If-None-Match": etag})
    assert answer.status_code == 200


async def test_waiting_on_a_complete_record_that_is_unchanged_is_304_at_once(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, full_report(call_id))
    etag = await etag_of(client, call_id)
    answer = await poll_at_once(client, call_id, {"If-None-Match": etag})
    assert (answer.status_code, answer.headers["etag"]) == (304, etag)


@pytest.mark.parametrize("wait", ["0", "0.3"])
async def test_waiting_on_a_running_call_that_is_unchanged_is_304_at_the_deadline(
    client: httpx2.AsyncClient, wait: str
) -> None:
    call_id = new_call_id()
    await deliver(client, status_update("queued", call_id))
    headers = {"If-None-Match": await etag_of(client, call_id)}
    answer = await client.get(CALLS + call_id, params={"wait": wait}, headers=headers)
    assert answer.status_code == 304


async def test_a_failed_record_that_is_unchanged_is_waited_on_until_the_report_comes(
    brief_client: httpx2.AsyncClient,
) -> None:
    call_id = new_call_id()
    await deliver(brief_client, preliminary_report(call_id))
    failed = await brief_client.get(CALLS + call_id, params={"wait": "20"})
    headers = {"If-None-Match": failed.headers["etag"]}
    async with parked_poll(brief_client, call_id, headers=headers) as poll:
        await deliver(brief_client, full_report(call_id))
        answer = await poll
    assert (failed.json()["data"]["data_status"], answer.status_code) == ("fetch_failed", 200)


async def test_a_change_that_is_not_final_wakes_a_known_copys_poll_with_202(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, status_update("queued", call_id))
    headers = {"If-None-Match": await etag_of(client, call_id)}
    async with parked_poll(client, call_id, headers=headers) as poll:
        await deliver(client, status_update("ringing", call_id))
        answer = await poll
    assert (answer.status_code, answer.json()["data"]["status"]) == (202, "ringing")
    assert answer.headers["etag"] == await etag_of(client, call_id)


async def test_a_change_that_is_final_wakes_a_known_copys_poll_with_200(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, status_update("queued", call_id))
    headers = {"If-None-Match": await etag_of(client, call_id)}
    async with parked_poll(client, call_id, headers=headers) as poll:
        await deliver(client, full_report(call_id))
        assert (await poll).status_code == 200


async def test_a_copy_that_is_out_of_date_already_is_answered_at_once(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, status_update("queued", call_id))
    headers = {"If-None-Match": await etag_of(client, call_id)}
    await deliver(client, status_update("ringing", call_id))
    answer = await poll_at_once(client, call_id, headers)
    assert (answer.status_code, answer.json()["data"]["status"]) == (202, "ringing")


async def test_a_deleted_call_is_404_to_who_holds_a_copy(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, full_report(call_id))
    headers = {"If-None-Match": await etag_of(client, call_id)}
    await client.delete(CALLS + call_id)
    answer = await poll_at_once(client, call_id, headers)
    assert answer.status_code == 404
