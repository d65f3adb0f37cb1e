"""What becomes of one try to send a callback, and of an origin that is away."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import pytest

from service.callback_url import parse_callback_url
from service.jobs.callback_destination import Destination, message_id_of
from service.jobs.callbacks import Callbacks, origins_of
from service.lifespan import repeat
from service.store.callback_calls import CallbackCalls
from service.store.keys import HELD_FOR_MS
from service.store.subscriptions import SubscriptionStore, TryClaim
from tests.support.callback_receiver import SECRET, CallbackReceiver
from tests.support.eventually import eventually
from tests.support.fake_vapi_server import Reply, Silence
from tests.support.opened_store import OpenedStore
from tests.support.store_events import change_from
from tests.support.vapi_sender import full_report, status_update

CALL = b"call-1"


@pytest.fixture
def receiver() -> Iterator[CallbackReceiver]:
    with CallbackReceiver() as receiver:
        yield receiver


@pytest.fixture
async def opened(receiver: CallbackReceiver) -> AsyncIterator[OpenedStore]:
    variables = {"CALLBACK_ALLOWED_PREFIXES": f"{receiver.url}/hooks", "CALLBACK_SECRET": SECRET}
    opened = OpenedStore("memory://", variables)
    yield opened
    await opened.close()


@pytest.fixture
def results() -> Counter[str]:
    return Counter()


@pytest.fixture
async def callbacks(opened: OpenedStore, results: Counter[str]) -> AsyncIterator[Callbacks]:
    given = (opened.settings, opened.pipeline, opened.keys)
    tags = [*origins_of(opened.settings)]
    stores = {tag: SubscriptionStore(*given, callbacks_to=tag) for tag in tags}

    def count(result: str) -> None:
        results[result] += 1

    callbacks = Callbacks(opened.settings, opened.store, CallbackCalls(*given, tags), stores, count)
    yield callbacks
    await callbacks.close()


@pytest.fixture
def destination(callbacks: Callbacks) -> Destination:
    return next(callbacks.destinations)


def claim_to(receiver: CallbackReceiver, path: str = "/hooks/x", *, tried_for_ms: int = 0) -> TryClaim:
    url = parse_callback_url(receiver.url + path)
    return TryClaim(CALL, b"callback:%b:%b" % (url.origin_tag, url.tag), 1, tried_for_ms, 1, url.text.encode())


@pytest.mark.parametrize(
    ("met", "result"),
    [
        (Reply(200), "delivered"),
        (Reply(204), "delivered"),
        (Reply(410), "dropped"),
        (Reply(302, headers={"location": "/"}), "retried"),
        (Reply(400), "retried"),
        (Reply(404), "retried"),
        (Reply(500), "retried"),
        (Reply(503), "retried"),
        (Silence.BREAK, "retried"),
        (Silence.CUT, "retried"),
    ],
)
async def test_the_status_of_the_answer_decides(
    opened: OpenedStore, destination: Destination, receiver: CallbackReceiver, met: Reply | Silence, result: str
) -> None:
    await opened.store.merge(change_from(full_report()))
    receiver.meet_next(met)
    assert await destination.attempt(claim_to(receiver)) == result


async def test_what_is_not_taken_for_a_day_is_dropped(
    opened: OpenedStore, destination: Destination, receiver: CallbackReceiver
) -> None:
    await opened.store.merge(change_from(full_report()))
    receiver.meet_next(Reply(500))
    assert await destination.attempt(claim_to(receiver, tried_for_ms=HELD_FOR_MS)) == "dropped"


async def test_what_no_prefix_allows_any_more_is_dropped_unsent(
    opened: OpenedStore, destination: Destination, receiver: CallbackReceiver
) -> None:
    await opened.store.merge(change_from(full_report()))
    assert await destination.attempt(claim_to(receiver, "/elsewhere")) == "dropped"
    assert receiver.requests == []


async def test_a_record_that_is_not_final_is_not_sent(
    opened: OpenedStore, destination: Destination, receiver: CallbackReceiver
) -> None:
    await opened.store.merge(change_from(status_update("ringing")))
    assert await destination.attempt(claim_to(receiver)) == "retried"
    assert receiver.requests == []


def test_the_message_id_is_that_of_the_subscription(receiver: CallbackReceiver) -> None:
    one, again = claim_to(receiver), claim_to(receiver, tried_for_ms=7)
    assert message_id_of(one) == message_id_of(again)
    assert message_id_of(one) != message_id_of(claim_to(receiver, "/hooks/y"))


async def test_an_origin_that_does_not_answer_rests_and_then_gets_everything(
    opened: OpenedStore, callbacks: Callbacks, receiver: CallbackReceiver, results: Counter[str]
) -> None:
    await opened.store.merge(change_from(full_report()))
    receiver.go_away()
    for number in range(20):
        await callbacks.subscribe(CALL, parse_callback_url(f"{receiver.url}/hooks/{number}"))
    tries = [asyncio.create_task(repeat(destination.try_due, 0.0)) for destination in callbacks.destinations]
    try:
        await eventually(lambda: results["retried"] >= 2)
        assert results["retried"] <= 4, "the others wait with the first two"
        receiver.come_back()
        await eventually(lambda: results["delivered"] == 20)
    finally:
        for task in tries:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tries)
    assert results["dropped"] == 0


async def test_a_path_that_does_not_answer_delays_no_other_of_its_origin(
    opened: OpenedStore, callbacks: Callbacks, receiver: CallbackReceiver
) -> None:
    await opened.store.merge(change_from(full_report()))
    dead = [f"/hooks/dead?{number}" for number in range(30)]
    receiver.always = dict.fromkeys(dead, Reply(503))
    for target in dead:
        await callbacks.subscribe(CALL, parse_callback_url(receiver.url + target))
    tries = [asyncio.create_task(repeat(destination.try_due, 0.0)) for destination in callbacks.destinations]
    try:
        await eventually(lambda: len(receiver.requests) >= 2)
        await callbacks.subscribe(CALL, parse_callback_url(f"{receiver.url}/hooks/alive"))
        await eventually(lambda: len(receiver.sent_to("/hooks/alive")) == 1)
        assert len(receiver.requests) < len(dead), "the path rests meanwhile"
    finally:
        for task in tries:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tries)


async def test_what_another_replica_made_due_is_found(
    opened: OpenedStore, callbacks: Callbacks, destination: Destination, receiver: CallbackReceiver
) -> None:
    await callbacks.subscribe(CALL, parse_callback_url(f"{receiver.url}/hooks/x"))
    await opened.store.merge(change_from(full_report()))
    await callbacks.look()
    assert (callbacks.standing.calls, sum(callbacks.standing.due.values())) == (1, 1)
    await destination.try_due()
    await eventually(lambda: len(receiver.requests) == 1)


async def test_origins_that_only_other_replicas_know_are_left_to_them(callbacks: Callbacks) -> None:
    callbacks.wake(0, b"ffffffff")
