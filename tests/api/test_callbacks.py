"""A callback gets the record of a call that ends, signed, once it is final; and no URL leads where the operator did not mean."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx2
import pytest

from service.callback_url import LONGEST_URL
from tests.support.callback_receiver import OLD_SECRET, SECRET, CallbackReceiver
from tests.support.eventually import eventually
from tests.support.fake_vapi_server import Reply, Silence
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.routes import CALLS
from tests.support.service_api import (
    ADMIN,
    CREDENTIALS,
    PROOF,
    READER,
    connected,
    deliver,
    metrics_reach,
    new_call_id,
    stats_of,
    subscribe_callback,
)
from tests.support.vapi_sender import full_report, status_update

NOT_FOUND = {"success": False, "error": "Call result not found"}


@pytest.fixture(scope="module")
def receiver() -> Iterator[CallbackReceiver]:
    """It still knows the old secret only."""
    with CallbackReceiver(secret=OLD_SECRET) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def dead() -> Iterator[CallbackReceiver]:
    """It takes connections and never answers."""
    with CallbackReceiver() as dead:
        dead.meet_next(*[Silence.HANG] * 1000)
        yield dead


@pytest.fixture(scope="module")
def replica(receiver: CallbackReceiver, dead: CallbackReceiver, redis_process: RedisProcess) -> Iterator[Replica]:
    replica = Replica(
        redis_url=redis_process.url,
        redis_key_prefix="api-callbacks",
        store_timeout_s=1.2,
        callback_allowed_prefixes=f"{receiver.url}/hooks,{dead.url}",
        callback_secret=f"{SECRET},{OLD_SECRET}",
        **CREDENTIALS,
    ).start()
    yield replica
    replica.stop()


@pytest.fixture
async def client(replica: Replica) -> AsyncIterator[httpx2.AsyncClient]:
    async with connected(replica, **READER) as client:
        yield client


@pytest.fixture
def hook() -> str:
    """A target that no other test uses."""
    return f"/hooks/{new_call_id()}?key=a%2Fb"


async def until_sent(receiver: CallbackReceiver, target: str, times: int = 1) -> None:
    await eventually(lambda: len(receiver.sent_to(target)) >= times)


async def test_it_gets_what_a_poll_gets_signed_with_every_secret(
    client: httpx2.AsyncClient, receiver: CallbackReceiver, hook: str
) -> None:
    call_id = new_call_id()
    answer = await subscribe_callback(client, call_id, receiver.url + hook)
    assert (answer.status_code, answer.json()) == (202, {"success": True})
    await deliver(client, status_update("in-progress", call_id), **PROOF)
    assert receiver.sent_to(hook) == []

    await deliver(client, full_report(call_id), **PROOF)
    await until_sent(receiver, hook)
    [request] = receiver.sent_to(hook)
    assert request.json == (await client.get(f"{CALLS}{call_id}?view=summary")).json()
    assert (request.method, request.headers["content-type"]) == ("POST", "application/json")
    assert receiver.unverified == 0
    assert len(request.headers["webhook-signature"].split(" ")) == 2


async def test_it_is_sent_at_once_where_the_record_is_final_and_only_once(
    client: httpx2.AsyncClient, receiver: CallbackReceiver, hook: str
) -> None:
    call_id = new_call_id()
    await deliver(client, full_report(call_id), **PROOF)
    await asyncio.gather(*(subscribe_callback(client, call_id, receiver.url + hook) for _ in range(5)))
    await until_sent(receiver, hook)
    await deliver(client, full_report(call_id, cost=9), **PROOF)
    assert (await subscribe_callback(client, call_id, receiver.url + hook)).status_code == 202

    other = hook.replace("?", "/second?")
    await subscribe_callback(client, call_id, receiver.url + other)
    await until_sent(receiver, other)
    assert len(receiver.sent_to(hook)) == 1


@pytest.mark.parametrize("call_is_known", [True, False])
async def test_a_deletion_is_told_as_a_poller_sees_it_with_the_calls_id(
    client: httpx2.AsyncClient, receiver: CallbackReceiver, hook: str, *, call_is_known: bool
) -> None:
    call_id = new_call_id()
    if call_is_known:
        await deliver(client, status_update("ringing", call_id), **PROOF)
    await subscribe_callback(client, call_id, receiver.url + hook)
    await client.delete(CALLS + call_id, headers=ADMIN)

    await until_sent(receiver, hook)
    assert receiver.bodies(hook) == [NOT_FOUND | {"call_id": call_id}]


async def test_what_was_not_taken_is_sent_again_with_the_same_id(
    client: httpx2.AsyncClient, receiver: CallbackReceiver, hook: str
) -> None:
    call_id = new_call_id()
    receiver.meet_next(Reply(500), Silence.BREAK)
    await deliver(client, full_report(call_id), **PROOF)
    await subscribe_callback(client, call_id, receiver.url + hook)

    await until_sent(receiver, hook, times=3)
    requests = receiver.sent_to(hook)
    assert len({request.headers["webhook-id"] for request in requests}) == 1
    assert len({request.body for request in requests}) == 1


async def test_a_receiver_that_says_gone_is_not_asked_again_and_a_redirect_is_not_followed(
    client: httpx2.AsyncClient, receiver: CallbackReceiver, hook: str
) -> None:
    gone, moved = hook.replace("?", "/gone?"), hook.replace("?", "/moved?")
    call_id = new_call_id()
    receiver.always |= {gone: Reply(410), moved: Reply(307, headers={"location": receiver.url + hook})}
    await deliver(client, full_report(call_id), **PROOF)
    await subscribe_callback(client, call_id, receiver.url + gone)
    await subscribe_callback(client, call_id, receiver.url + moved)

    await until_sent(receiver, moved, times=3)
    assert (len(receiver.sent_to(gone)), receiver.sent_to(hook)) == (1, [])
    receiver.always[moved] = Reply(204)


async def test_the_body_of_an_answer_is_not_waited_for(
    client: httpx2.AsyncClient, receiver: CallbackReceiver, hook: str
) -> None:
    call_id = new_call_id()
    receiver.always[hook] = Reply(200, b"x", headers={"content-length": str(10**12)})
    await deliver(client, full_report(call_id), **PROOF)
    await subscribe_callback(client, call_id, receiver.url + hook)
    await until_sent(receiver, hook)
    await metrics_reach(client, {"vapi_callback_calls": 0, "vapi_callbacks_due": 0})
    assert len(receiver.sent_to(hook)) == 1


async def test_a_receiver_that_hangs_delays_no_other(
    client: httpx2.AsyncClient, receiver: CallbackReceiver, dead: CallbackReceiver, hook: str
) -> None:
    call_id = new_call_id()
    await deliver(client, full_report(call_id), **PROOF)
    await asyncio.gather(*(subscribe_callback(client, call_id, f"{dead.url}/{number}") for number in range(50)))
    await eventually(lambda: len(dead.requests) >= 2)
    await subscribe_callback(client, call_id, receiver.url + hook)

    await until_sent(receiver, hook)
    assert len(dead.requests) == 2, "at most two at a time"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (None, "must be a string"),
        (["https://secret.example"], "must be a string"),
        ("https://secret.example/", "must begin with one of"),
        ("{receiver}/secret", "must begin with one of"),
        ("{receiver}/hooks/../secret", "must not hold .."),
        ("{receiver}/hooks/secret#a", "must be an absolute"),
        ("{receiver}/hooks/secret\n", "must be an absolute"),
        ("{receiver}/hooks/" + "secret" * LONGEST_URL, "must have at most"),
    ],
)
async def test_a_wrong_url_is_refused_by_its_reason_and_not_quoted(
    client: httpx2.AsyncClient, receiver: CallbackReceiver, url: Any, reason: str
) -> None:
    text = url.format(receiver=receiver.url) if isinstance(url, str) else url
    answer = await subscribe_callback(client, new_call_id(), text)
    assert answer.status_code == 400
    [detail] = answer.json()["details"]
    assert (detail["path"], detail["message"][: len(reason)]) == ("$.url", reason)
    assert "secret" not in answer.text


async def test_each_kind_needs_only_what_it_uses(
    client: httpx2.AsyncClient, start_replica: Callable[..., Replica]
) -> None:
    resume = {"kind": "kestra_resume", "execution_id": "abc"}
    answer = await client.post(f"{CALLS}some-call/subscriptions", json=resume)
    assert (answer.status_code, "KESTRA_URL" in answer.json()["error"]) == (501, True)

    async with connected(start_replica(kestra_url="http://127.0.0.1:1")) as other:
        answer = await subscribe_callback(other, "some-call", "https://a.example/")
    assert (answer.status_code, "CALLBACK_ALLOWED_PREFIXES" in answer.json()["error"]) == (501, True)


async def test_stats_and_metrics_count_what_became_of_it(
    receiver: CallbackReceiver, start_replica: Callable[..., Replica], hook: str
) -> None:
    gone, later = hook.replace("?", "/gone?"), hook.replace("?", "/later?")
    receiver.always |= {gone: Reply(410), later: Reply(500)}
    replica = start_replica(callback_allowed_prefixes=receiver.url, callback_secret=OLD_SECRET)
    async with connected(replica) as client:
        await deliver(client, full_report("over"))
        for call_id, target in (("runs", hook), ("over", hook), ("over", gone), ("over", later)):
            assert (await subscribe_callback(client, call_id, receiver.url + target)).status_code == 202
        await until_sent(receiver, later)
        receiver.always[later] = Reply(200)
        expected = {"delivered": 2, "dropped": 1, "retried": 0}

        async def stand() -> bool:
            expected["retried"] = len(receiver.sent_to(later)) - 1  # more than once where this test was held up
            return bool((await stats_of(client))["callbacks"] == {"waiting_calls": 1, "due": 0, **expected})

        await eventually(stand)
        shown = {f'vapi_callbacks_total{{result="{result}"}}': float(count) for result, count in expected.items()}
        await metrics_reach(client, {**shown, "vapi_callback_calls": 1})
    assert "?key=" not in replica.log
    assert "/hooks/" not in replica.log
