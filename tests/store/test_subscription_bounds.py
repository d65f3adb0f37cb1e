"""Subscriptions cannot fill Redis: how many there may be, of one call, of calls nobody knows, of all; what still fits."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable

import pytest
from structlog.testing import capture_logs

from service.errors import TooManyRequestsError, UnavailableError
from service.store.calls import CallStore
from service.store.keys import bucket_of
from service.store.redis_memory import is_nearly_full
from service.store.subscriptions import SubscriptionStore
from tests.support.eventually import eventually
from tests.support.opened_store import OpenedStore, OpenStore
from tests.support.redis_server import RedisProcess
from tests.support.redis_topologies import ask
from tests.support.store_events import change_from
from tests.support.vapi_sender import full_report, status_update

FAR_S = 30.0
MAXIMUM_BYTES = 20_000_000


def subscriptions_of(opened: OpenedStore) -> SubscriptionStore:
    """Those of one more process."""
    return SubscriptionStore(opened.settings, opened.pipeline, opened.keys)


async def make_known(store: CallStore, call_ids: Iterable[bytes]) -> None:
    await asyncio.gather(
        *(store.merge(change_from(status_update("ringing", call_id.decode()))) for call_id in call_ids)
    )


async def is_taken(store: SubscriptionStore, call_id: bytes, execution_id: bytes = b"execution") -> bool:
    try:
        await store.subscribe(call_id, execution_id)
    except TooManyRequestsError:
        return False
    return True


async def test_all_calls_together_have_at_most_so_many_and_what_is_noted_stays_so(open_store: OpenStore) -> None:
    opened = await open_store(MAX_SUBSCRIPTIONS=20)
    store = subscriptions_of(opened)
    ids = [b"call-%d" % number for number in range(21)]
    await make_known(opened.store, ids)

    assert [await is_taken(store, call_id) for call_id in ids] == [True] * 20 + [False]

    await opened.store.merge(change_from(full_report("call-0")))
    [claim] = (await store.claim(bucket_of(b"call-0"), 10)).claims
    await store.end_claim(claim, "resumed")
    assert [await is_taken(store, call_id) for call_id in ids] == [True] * 20 + [False]


async def test_a_tenth_may_be_of_calls_nobody_knows_until_they_are_known(open_store: OpenStore) -> None:
    opened = await open_store(MAX_SUBSCRIPTIONS=30)
    store = subscriptions_of(opened)
    made_up = [b"made-up-%d" % number for number in range(4)]
    await make_known(opened.store, [b"call-1"])

    assert [await is_taken(store, call_id) for call_id in made_up] == [True] * 3 + [False]
    assert await is_taken(store, b"call-1"), "of a known call there is room"

    await make_known(opened.store, made_up[:1])
    await eventually(lambda: is_taken(store, made_up[3]), FAR_S)
    assert not await is_taken(store, b"made-up-5")


async def test_the_bound_is_of_all_replicas_together(open_store: OpenStore) -> None:
    opened = await open_store(MAX_SUBSCRIPTIONS=10)
    one, other = subscriptions_of(opened), subscriptions_of(opened)
    await make_known(opened.store, [b"call-1", b"call-2"])
    for number in range(10):
        assert await is_taken(one, b"call-1", b"execution%d" % number)

    numbers = itertools.count()

    async def is_refused() -> bool:
        return not await is_taken(other, b"call-2", b"execution%d" % next(numbers))

    await eventually(is_refused)


async def test_those_under_way_at_once_do_not_slip_past_the_bound(open_store: OpenStore) -> None:
    opened = await open_store(MAX_SUBSCRIPTIONS=10)
    store = subscriptions_of(opened)
    ids = [b"call-%d" % number for number in range(60)]
    await make_known(opened.store, ids)

    taken = await asyncio.gather(*(is_taken(store, call_id) for call_id in ids))
    assert sum(taken) == 10
    # A count does not forget who was under way while it ran.
    for _ in range(3):
        await asyncio.sleep(0.4)
        assert sum(await asyncio.gather(*(is_taken(store, call_id) for call_id in ids))) == 10


@pytest.mark.parametrize("is_known", [False, True])
async def test_what_expired_with_its_record_leaves_the_count(open_store: OpenStore, *, is_known: bool) -> None:
    opened = await open_store(MAX_SUBSCRIPTIONS=10, RESULT_TTL_S=1, PENDING_TTL_S=3600 if is_known else 1)
    store = subscriptions_of(opened)
    ids = [b"call-%d" % number for number in range(10 if is_known else 1)]
    if is_known:
        await make_known(opened.store, ids)
    for call_id in ids:
        assert await is_taken(store, call_id)
    if is_known:
        await make_known(opened.store, [b"next"])
    assert not await is_taken(store, b"next")

    if is_known:  # their life becomes shorter than it was when they were noted
        for call_id in ids:
            await opened.store.merge(change_from(full_report(call_id.decode())))

    await eventually(lambda: is_taken(store, b"next"), FAR_S)


async def test_a_longer_life_of_its_record_keeps_it_counted(open_store: OpenStore) -> None:
    opened = await open_store(MAX_SUBSCRIPTIONS=1, RESULT_TTL_S=1)
    store = subscriptions_of(opened)
    await make_known(opened.store, [b"call-1", b"call-2"])
    assert await is_taken(store, b"call-1")

    for _ in range(6):
        await asyncio.sleep(0.4)
        assert not await is_taken(store, b"call-2")


@pytest.mark.parametrize(
    ("maximum", "used", "expected"),
    [(0, 10**9, False), (1000, 900, False), (1000, 901, True), (1000, 1200, True)],
)
def test_nearly_full_is_less_than_a_tenth_free(maximum: int, used: int, *, expected: bool) -> None:
    assert is_nearly_full(b"# Memory\r\nused_memory:%d\r\nmaxmemory:%d\r\n" % (used, maximum), 10) is expected
    assert not is_nearly_full(b"nothing of it", 10)


@pytest.fixture
async def filled(own_redis: RedisProcess, open_on: OpenStore) -> AsyncIterator[OpenedStore]:
    """A Redis with less than a tenth of its memory free."""
    opened = await open_on()
    await subscriptions_of(opened).subscribe(b"call-1", b"execution")
    await opened.redis.config_set("maxmemory", MAXIMUM_BYTES)
    while (await opened.redis.info("memory"))["used_memory"] < 0.93 * MAXIMUM_BYTES:
        await opened.redis.rpush("filling", b"x" * 100_000)
    yield opened


async def test_a_nearly_full_redis_takes_webhooks_and_no_new_subscription(filled: OpenedStore) -> None:
    store = subscriptions_of(filled)
    with pytest.raises(UnavailableError, match="nearly full"):
        await store.subscribe(b"call-1", b"another")

    assert not await store.subscribe(b"call-1", b"execution"), "it is noted already"
    for number in range(10):
        await filled.store.merge(change_from(full_report(f"call-{number}")))
    await filled.redis.delete("filling")

    async def has_room() -> bool:
        try:
            await store.subscribe(b"call-2", b"execution")
        except UnavailableError:
            return False
        return True

    await eventually(has_room, FAR_S)


async def test_where_info_is_refused_only_the_counts_bound_and_one_warning_says_so(
    filled: OpenedStore, own_redis: RedisProcess
) -> None:
    ask(own_redis, "ACL", "SETUSER", "default", "-info")
    store = subscriptions_of(filled)
    with capture_logs() as logs:
        for number in range(3):
            await store.subscribe(b"call-1", b"another%d" % number)
            await asyncio.sleep(0.6)

    assert [line["event"] for line in logs] == ["redis_memory.not_shown"]


async def test_whoever_invents_ids_leaves_room_for_webhooks(open_on: OpenStore) -> None:
    opened = await open_on()
    await opened.redis.config_set("maxmemory", "40mb")
    store = subscriptions_of(opened)
    taken = 0
    for batch in range(120):
        ids = [b"%0128d" % (100 * batch + number) for number in range(100)]
        taken += sum(await asyncio.gather(*(is_taken(store, call_id, b"e" * 64) for call_id in ids)))

    memory = await opened.redis.info("memory")
    assert 9_500 < taken <= 10_000  # counted once a second: what came between a count and its end counts twice
    assert memory["used_memory"] < 0.75 * memory["maxmemory"]
    for number in range(100):
        await opened.store.merge(change_from(full_report(f"call-{number}")))
