"""The reply to a claim of due resumes gets lost: what it took up is had by the next claim, not after its lease."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from service.errors import StoreUnavailableError
from service.store.keys import bucket_of
from service.store.lua import load_script
from service.store.subscriptions import LEASE_MS, SubscriptionStore, TryClaim
from tests.support.cutting_proxy import CuttingProxy
from tests.support.opened_store import OpenedStore
from tests.support.redis_server import RedisProcess
from tests.support.store_events import change_from
from tests.support.vapi_sender import full_report

CALL = b"call-1"
BUCKET = bucket_of(CALL)
CLAIM = load_script("claim_due.lua").sha.decode()


@pytest.fixture
async def proxy(own_redis: RedisProcess) -> AsyncIterator[CuttingProxy]:
    async with CuttingProxy(own_redis.port) as proxy:
        yield proxy


@pytest.fixture
async def opened(proxy: CuttingProxy) -> AsyncIterator[OpenedStore]:
    opened = OpenedStore(proxy.url, {"STORE_TIMEOUT_S": "1.2"})
    yield opened
    await opened.close()


@pytest.fixture
async def subscriptions(opened: OpenedStore) -> SubscriptionStore:
    """Of a process for which two executions are due."""
    store = SubscriptionStore(opened.settings, opened.pipeline, opened.keys)
    for execution_id in (b"one", b"two"):
        await store.subscribe(CALL, execution_id)
    await store.claim(BUCKET, 10)  # Redis has the script now
    await opened.store.merge(change_from(full_report()))
    return store


async def claimed(store: SubscriptionStore) -> list[TryClaim]:
    claims = (await store.claim(BUCKET, 10)).claims
    return sorted(claims, key=lambda claim: claim.subscriber)


async def test_a_claim_that_was_sent_again_gets_what_the_first_sending_took_up(
    subscriptions: SubscriptionStore, proxy: CuttingProxy
) -> None:
    proxy.cut_replies_to(CLAIM)
    claims = await claimed(subscriptions)

    assert proxy.cuts == 1
    assert [(claim.subscriber, claim.number) for claim in claims] == [(b"one", 1), (b"two", 1)]
    assert await claimed(subscriptions) == []


async def test_the_claim_after_one_that_failed_gets_what_that_one_took_up(
    subscriptions: SubscriptionStore, opened: OpenedStore, own_redis: RedisProcess
) -> None:
    await opened.send("CLIENT", "PAUSE", "600000", "WRITE")
    with pytest.raises(StoreUnavailableError):
        await subscriptions.claim(BUCKET, 10)
    await opened.send("CLIENT", "UNPAUSE")

    claims = await claimed(subscriptions)
    assert [claim.subscriber for claim in claims] == [b"one", b"two"]


async def test_what_a_lost_claim_took_up_and_somebody_settled_is_not_returned_again(
    subscriptions: SubscriptionStore, proxy: CuttingProxy, opened: OpenedStore
) -> None:
    lost = SubscriptionStore(opened.settings, opened.pipeline, opened.keys)
    lost._unanswered[BUCKET] = b"1"  # as if its reply had been lost
    first, _ = await claimed(lost)
    assert await subscriptions.end_claim(first, "resumed")
    lost._unanswered[BUCKET] = b"1"

    assert [claim.subscriber for claim in await claimed(lost)] == [b"two"]


async def test_a_lost_claim_takes_nothing_from_another_process(
    subscriptions: SubscriptionStore, opened: OpenedStore
) -> None:
    assert len(await claimed(subscriptions)) == 2
    other = SubscriptionStore(opened.settings, opened.pipeline, opened.keys)

    assert await claimed(other) == []
    remaining_ms = await opened.redis.pttl(opened.keys.claimed(BUCKET, subscriptions._process).decode())
    assert 0 < remaining_ms <= LEASE_MS
