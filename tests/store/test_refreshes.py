"""Complete records that lack what VAPI adds late are put by, once, and taken up by one replica at a time."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any, Final

import msgspec
import pytest

from service.calls.facts import FACTS
from service.store.calls import REFRESH_AFTER_MS
from service.store.index_scan import REFRESH_LEASE_MS, REFRESHES_AT_MOST
from service.store.keys import bucket_of
from service.store.reconcile_leases import ReconcileLeases
from tests.support.first_version import FirstVersion
from tests.support.for_each import for_each
from tests.support.opened_store import OpenedStore, OpenStore
from tests.support.passing_time import let_refresh_pass
from tests.support.store_events import change, change_from, record
from tests.support.vapi_sender import full_report, message, preliminary_report, sample, status_update

CALL: Final = b"call-1"
BUCKET: Final = bucket_of(CALL)
AFTER_S: Final = REFRESH_AFTER_MS / 1000

SAID: Final[dict[str, Any]] = {"transcript": "AI: Hello.\nUser: Hi.\n"}
RECORDED: Final = SAID | {"recordingUrl": "https://storage.example/recording.wav"}
ASKS: Final = {"artifactPlan": {"structuredOutputIds": ["u1"]}}
OUTPUTS: Final = {"structuredOutputs": {"u1": {"name": "CSAT", "result": 8}}}
UNRECORDED: Final = full_report(artifact=SAID)
ENDED: Final = status_update("ended", endedReason="assistant-ended-call")


@pytest.fixture
async def opened(open_store: OpenStore) -> OpenedStore:
    return await open_store(VAPI_API_KEY="a-key")


def asking_of(opened: OpenedStore) -> ReconcileLeases:
    return ReconcileLeases(opened.settings, opened.pipeline, opened.keys)


async def merge(opened: OpenedStore, body: dict[str, Any], call_id: bytes = CALL) -> None:
    await opened.store.merge(msgspec.structs.replace(change_from(body), call_id=call_id))


async def put_by(opened: OpenedStore, call_id: bytes = CALL) -> list[bytes]:
    index: Any = await opened.redis.zrange(opened.keys.refreshes[bucket_of(call_id)], 0, -1)
    return list(index)


async def pass_time(opened: OpenedStore, seconds: float, call_id: bytes = CALL) -> None:
    await let_refresh_pass(opened.redis, opened.keys.refreshes[bucket_of(call_id)], call_id.decode(), seconds)


async def taken_up(opened: OpenedStore, bucket: int = BUCKET) -> list[bytes]:
    return (await opened.store.scan_bucket(bucket, takes_refreshes=True)).refreshable


LACKING: Final = {
    "no recording": [UNRECORDED],
    "no recording, although told to record": [
        full_report(artifact=SAID, assistant={"artifactPlan": {"recordingEnabled": True}})
    ],
    "a preliminary report that nothing will follow": [
        preliminary_report(artifact=SAID, endedReason="voicemail")
    ],
    "no outputs": [preliminary_report(artifact=RECORDED, endedReason="voicemail", assistant=ASKS)],
    "no recording, said by an early message": [
        status_update("in-progress", assistant={"artifactPlan": {"recordingEnabled": True}}), UNRECORDED,
    ],
}  # fmt: skip


@for_each("name", LACKING)
async def test_what_lacks_something_is_put_by_for_a_minute(opened: OpenedStore, name: str) -> None:
    call_id = name.replace(" ", "-").encode()
    for body in LACKING[name]:
        await merge(opened, body, call_id)
    assert call_id in await put_by(opened, call_id)
    assert await taken_up(opened, bucket_of(call_id)) == []
    await pass_time(opened, AFTER_S - 5, call_id)
    assert await taken_up(opened, bucket_of(call_id)) == []
    await pass_time(opened, 5, call_id)
    assert await taken_up(opened, bucket_of(call_id)) == [call_id]


NOT_RECORDED: Final = {"artifactPlan": {"recordingEnabled": False}}
LACKING_NOTHING: Final = {
    "all is here": [full_report()],
    "recording is off": [full_report(artifact=SAID, assistant=NOT_RECORDED)],
    "recording is off, said by an early message": [status_update("in-progress", assistant=NOT_RECORDED), UNRECORDED],
    "the customer never spoke": [full_report(artifact={"transcript": "AI: Hello?\n"})],
    "nobody knows who spoke": [full_report(artifact={})],
    "the call runs": [status_update("in-progress")],
    "its report is still to come": [ENDED, preliminary_report(artifact=SAID)],
    "outputs were not asked for": [full_report(artifact=RECORDED)],
    "outputs were skipped": [
        full_report(artifact=RECORDED | {"skippedStructuredOutputs": {"u1": {"name": "CSAT"}}}, assistant=ASKS)
    ],
    "outputs are here": [full_report(artifact=RECORDED | OUTPUTS, assistant=ASKS)],
    "a real report": [sample("outbound-end-of-call-report-full")],
}


@for_each("name", LACKING_NOTHING)
async def test_what_lacks_nothing_is_not_put_by(opened: OpenedStore, name: str) -> None:
    call_id = name.replace(" ", "-").encode()
    for body in LACKING_NOTHING[name]:
        await merge(opened, body, call_id)
    assert await opened.store.find(call_id) is not None
    assert await put_by(opened, call_id) == []


async def test_without_a_key_for_vapi_nothing_is_put_by(open_store: OpenStore) -> None:
    opened = await open_store()
    await merge(opened, UNRECORDED)
    assert await put_by(opened) == []
    assert not await opened.redis.hexists(opened.keys.call(CALL).decode(), "refresh")


async def test_a_call_is_put_by_in_every_order_of_its_messages_and_once(opened: OpenedStore) -> None:
    spoken = preliminary_report(artifact=SAID)
    for number, order in enumerate(itertools.permutations([ENDED, spoken, full_report(artifact={}), UNRECORDED])):
        call_id = b"call-%d" % number
        for body in (*order, *order):
            await merge(opened, body, call_id)
        assert call_id in await put_by(opened, call_id), order
        assert await asking_of(opened).take_refresh(call_id)
        await merge(opened, order[0], call_id)
        assert call_id not in await put_by(opened, call_id), order


async def test_replicas_take_up_a_call_one_at_a_time(opened: OpenedStore) -> None:
    await merge(opened, UNRECORDED)
    await pass_time(opened, AFTER_S)
    looks = await asyncio.gather(*(taken_up(opened) for _ in range(10)))
    assert sorted(looks) == [[]] * 9 + [[CALL]]
    await pass_time(opened, REFRESH_LEASE_MS / 1000)
    assert await taken_up(opened) == [CALL], "whoever took it up may have died"


async def test_of_all_who_took_a_call_up_one_may_ask(opened: OpenedStore) -> None:
    await merge(opened, UNRECORDED)
    took = await asyncio.gather(*(asking_of(opened).take_refresh(CALL) for _ in range(10)))
    assert took.count(True) == 1
    await pass_time(opened, AFTER_S)
    assert await taken_up(opened) == []


async def test_a_look_takes_up_so_many_and_only_where_it_is_told_to(opened: OpenedStore) -> None:
    ids = [b"call-%d" % number for number in range(1000) if bucket_of(b"call-%d" % number) == BUCKET]
    for call_id in ids[: REFRESHES_AT_MOST + 2]:
        await merge(opened, UNRECORDED, call_id)
        await pass_time(opened, AFTER_S, call_id)
    assert (await opened.store.scan_bucket(BUCKET, takes_turns=True)).refreshable == []
    looks = [await taken_up(opened) for _ in range(3)]
    assert [len(look) for look in looks] == [REFRESHES_AT_MOST, 2, 0]


async def test_what_is_put_by_goes_by_itself(opened: OpenedStore) -> None:
    await merge(opened, UNRECORDED)
    life_ms = 2 * max(opened.settings.result_ttl_ms, opened.settings.pending_ttl_ms)
    assert 0 < await opened.redis.pttl(opened.keys.refreshes[BUCKET].decode()) <= life_ms


async def test_one_call_that_is_put_by_takes_at_most_twelve_keys_in_one_slot(opened: OpenedStore) -> None:
    for body in (status_update("queued", customer={"number": "+18645550123"}), ENDED, UNRECORDED):
        await opened.store.merge(change_from(body))
    await opened.store.delete(CALL)
    keys = await opened.keys_in_redis()
    assert opened.keys.refreshes[BUCKET] in keys
    assert len(keys) <= 12 - 4, "subscriptions take four more"


async def test_what_was_asked_for_changes_no_record(opened: OpenedStore) -> None:
    await merge(opened, UNRECORDED)
    before = await record(opened.store)
    merged = await opened.store.merge(change_from(message("hang", "call-1", assistant=NOT_RECORDED)))
    after = await record(opened.store)
    assert (merged.is_changed, after["version"]) == (False, before["version"])
    assert after.keys().isdisjoint({"recording_enabled", "outputs_awaited"})


async def test_a_record_with_fewer_later_facts_is_put_by_when_it_is_told_something(opened: OpenedStore) -> None:
    """A version between 0.1.0 and 0.2.0 wrote three later facts, and knew of no refresh."""
    await merge(opened, UNRECORDED)
    key = opened.keys.call(CALL).decode()
    later: Any = await opened.redis.hget(key, "facts2")
    await opened.redis.hset(key, "facts2", b"\x1f".join(later.split(b"\x1f")[:3]) + b"\x1f")
    await opened.redis.hdel(key, "refresh")
    await opened.redis.zrem(opened.keys.refreshes[BUCKET].decode(), CALL)
    assert (await record(opened.store))["customer_spoke"] is True

    await opened.store.merge(change())
    assert await put_by(opened) == [CALL]


async def test_a_replica_of_the_first_version_reads_and_merges_what_is_put_by(opened: OpenedStore) -> None:
    first_version = FirstVersion(opened)
    await merge(opened, UNRECORDED)
    await first_version.merge("outbound-status-update-queued", "call-1")
    assert await first_version.read("call-1")
    await pass_time(opened, AFTER_S)
    assert await taken_up(opened) == [CALL]


def test_the_places_that_the_script_knows_are_those_of_the_facts() -> None:
    assert (FACTS[7], FACTS[19], FACTS[22], FACTS[23]) == (
        "recording_url", "customer_spoke", "recording_enabled", "outputs_awaited",
    )  # fmt: skip
