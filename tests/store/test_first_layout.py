"""Records and spooled changes of version 0.1.0 are read and merged, and its replicas read and merge ours."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest

from service.calls.facts import LARGE_FACTS
from service.calls.record import LARGE_OF_VIEW, render_record
from service.calls.status import DataStatus
from service.calls.stored_call import CallChange, StoredCall
from service.store.call_codec import (
    LATER_FACTS,
    SPOOL_LAYOUT,
    UnknownLayoutError,
    UnreadableChangeError,
    decode_spooled,
    encode_spooled,
)
from tests.support.call_record import change_by
from tests.support.first_version import FOLDER, SPOOLED, FirstVersion
from tests.support.opened_store import OpenedStore
from tests.support.store_events import record
from tests.support.vapi_sender import sample, sample_bytes

RECORDS: dict[str, dict[str, str]] = json.loads((FOLDER / "records.json").read_text())
FULL = "outbound-end-of-call-report-full"
PRELIMINARY = "outbound-end-of-call-report-preliminary"
QUEUED = "outbound-status-update-queued"
VOICEMAIL = "outbound-end-of-call-report-voicemail"
NO_ANSWER = "outbound-end-of-call-report-no-answer-minimal"


@pytest.fixture
def first_version(opened: OpenedStore) -> FirstVersion:
    return FirstVersion(opened)


async def restore(opened: OpenedStore, name: str, call_id: str = "call-1") -> None:
    """A record as version 0.1.0 left it, its call's id aside."""
    key = opened.keys.call(call_id.encode())
    await opened.redis.hset(key.decode(), mapping=dict[Any, Any](RECORDS[name]))
    await opened.redis.pexpire(key.decode(), 60_000)


def sent(name: str, call_id: str = "call-1") -> CallChange:
    return msgspec.structs.replace(change_by(sample_bytes(name)), call_id=call_id.encode())


@pytest.mark.parametrize("name", RECORDS)
async def test_a_record_of_the_first_version_is_served_whole(opened: OpenedStore, name: str) -> None:
    await restore(opened, name)
    served = await record(opened.store)
    facts = dict(zip(("customer_phone", "ended_reason"), RECORDS[name]["facts"].split("\x1f"), strict=False))
    assert served["customer_phone"] == json.loads(facts["customer_phone"])
    assert served["ended_reason"] == json.loads(facts["ended_reason"][1:] or "null")
    assert (served["customer_spoke"], served["call_type"], served["forwarded_to"]) == (None, None, None)


async def test_a_reliable_record_of_the_first_version_stays_reliable(opened: OpenedStore) -> None:
    await restore(opened, FULL)
    assert (await record(opened.store))["analysis_reliable"] is True


async def test_a_preliminary_record_of_the_first_version_becomes_complete_by_the_full_report(
    opened: OpenedStore,
) -> None:
    await restore(opened, PRELIMINARY)
    await opened.store.merge(sent(FULL))
    served = await record(opened.store)
    assert (served["data_status"], served["customer_spoke"], served["cost"]) == ("complete", True, 0.1187)


@pytest.mark.parametrize("name", [FULL, VOICEMAIL, NO_ANSWER])
async def test_a_preliminary_report_takes_nothing_from_a_complete_record_of_the_first_version(
    opened: OpenedStore, name: str
) -> None:
    await restore(opened, name)
    before = await record(opened.store)
    await opened.store.merge(sent(PRELIMINARY))
    after = await record(opened.store)
    assert after["data_status"] == "complete"
    kept = ("ended_reason", "analysis_summary", "cost", "recording_url", "structured_outputs")
    assert {field: after[field] for field in kept} == {field: before[field] for field in kept}


NEW_RECORDS = (QUEUED, PRELIMINARY, FULL, VOICEMAIL, NO_ANSWER, "call.deleted", "hang")


async def test_the_first_version_reads_whatever_we_write(opened: OpenedStore, first_version: FirstVersion) -> None:
    for name in NEW_RECORDS:
        await opened.store.merge(sent(name, name))
        assert await first_version.read(name), name


async def test_the_first_version_merges_into_what_we_wrote_and_leaves_the_newer_facts(
    opened: OpenedStore, first_version: FirstVersion
) -> None:
    await opened.store.merge(sent(FULL))
    await first_version.merge(PRELIMINARY, "call-1")
    served = await record(opened.store)
    assert (served["data_status"], served["customer_spoke"], served["call_type"]) == (
        "complete", True, "outboundPhoneCall",
    )  # fmt: skip
    assert served["cost"] == 0.1187


async def test_what_both_versions_merge_in_any_order_is_complete_and_says_the_same(
    opened: OpenedStore, first_version: FirstVersion
) -> None:
    names = [QUEUED, PRELIMINARY, FULL]
    chance = random.Random(20_260_901)
    expected = sample(FULL)["message"]
    for turn in range(40):
        call_id = f"call-{turn}"
        for name in chance.sample(names * 2, 6):
            if chance.random() < 0.5:
                await first_version.merge(name, call_id)
            else:
                await opened.store.merge(sent(name, call_id))
            assert await first_version.read(call_id)
        served = await record(opened.store, call_id)
        assert served["data_status"] == "complete", call_id
        assert served["transcript"]["text"] == expected["artifact"]["transcript"], call_id
        assert served["analysis_summary"] == expected["analysis"]["summary"], call_id
        assert served["analysis_reliable"] is True, call_id


@pytest.mark.parametrize("name", SPOOLED)
def test_a_change_that_the_first_version_spooled_is_read_by_name(name: str) -> None:
    spooled = decode_spooled(bytes.fromhex(SPOOLED[name]))
    today = sent(name, name)
    known = {fact: text for fact, text in today.facts.known().items() if fact not in LATER_FACTS}
    assert spooled.facts.known() == known
    assert (spooled.call_id, spooled.status, spooled.rules_out_analysis) == (
        today.call_id, today.status, today.rules_out_analysis,
    )  # fmt: skip


@pytest.mark.parametrize("name", NEW_RECORDS)
def test_a_spooled_change_comes_back_as_it_was(name: str) -> None:
    change = sent(name)
    assert decode_spooled(encode_spooled(change)) == change


@pytest.mark.parametrize("name", NEW_RECORDS)
def test_the_first_version_finds_its_facts_in_what_we_spool(name: str) -> None:
    spooled = msgspec.msgpack.decode(encode_spooled(sent(name)), type=dict[str, Any])
    assert (spooled["layout"], len(spooled["small"]), len(spooled["large"])) == (1, 19, 4)
    assert spooled["small"][1][:1] in {b"", b"0", b"1"}


def test_a_spooled_fact_that_only_a_later_version_knows_is_left_out() -> None:
    change = sent(FULL)
    theirs = msgspec.msgpack.decode(encode_spooled(change), type=dict[str, Any])
    theirs["later"]["a_fact_that_we_do_not_know"] = b"true"
    assert decode_spooled(msgspec.msgpack.encode(theirs)) == change


def test_a_layout_of_the_future_is_told_from_damage() -> None:
    later = msgspec.msgpack.decode(encode_spooled(sent(FULL)), type=dict[str, Any])
    with pytest.raises(UnknownLayoutError):
        decode_spooled(msgspec.msgpack.encode(later | {"layout": SPOOL_LAYOUT + 1}))
    with pytest.raises(UnreadableChangeError):
        decode_spooled(b"\xc1damaged")


async def test_facts_of_a_later_version_stay_where_they_are(opened: OpenedStore) -> None:
    await opened.store.merge(sent(PRELIMINARY))
    key = opened.keys.call(b"call-1").decode()
    theirs = b"9" + b"0" * 16 + b'"a fact that we do not know"\x1f'
    ours: Any = await opened.redis.hget(key, "facts2")
    await opened.redis.hset(key, "facts2", ours + theirs)
    await opened.store.merge(sent(FULL))
    merged: Any = await opened.redis.hget(key, "facts2")
    assert merged.endswith(theirs)
    call = await opened.store.find(b"call-1", LARGE_OF_VIEW["full"])
    assert isinstance(call, StoredCall)
    assert call.data_status == DataStatus.COMPLETE
    assert set(LARGE_FACTS) <= call.facts.known().keys()
    assert render_record(call, "full")
    small = await opened.store.find(b"call-1")
    assert isinstance(small, StoredCall)
    assert small.facts == msgspec.structs.replace(call.facts, **dict.fromkeys(LARGE_FACTS, b""))
