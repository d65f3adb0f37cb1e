"""Rows: what is written is read, late and repeated messages do no harm, and what was erased stays erased."""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import time
from typing import Any

import msgspec
import pytest

from service.archive.database import Archive
from service.archive.rows import COLUMNS
from service.calls.facts import Facts
from service.calls.merging import merge_calls
from service.calls.record import render_record
from service.calls.stamped_call import StampedCall
from service.calls.status import CALL_DELETED_OFFSET_MS, CALL_DELETED_RANK
from tests.support.archives import open_archive
from tests.support.eventually import PATIENCE_S
from tests.support.postgres_server import PostgresProcess
from tests.support.store_events import change, change_from, lifetime_of
from tests.support.vapi_sender import full_report, message, sample, sample_names, status_update

PHONE = "+18645550123"


def said(call_id: str, facts: dict[str, str], *, at_ms: int = 1) -> StampedCall:
    """A call of which one message gave these facts."""
    texts = {name: text.encode() for name, text in facts.items()}
    return lifetime_of(msgspec.structs.replace(change(call_id, at_ms=at_ms), facts=Facts(**texts)))


def changed_at(updated_at_ms: int, stamped: StampedCall) -> StampedCall:
    """The call, last changed at that time of Redis's clock."""
    return msgspec.structs.replace(stamped, call=msgspec.structs.replace(stamped.call, updated_at_ms=updated_at_ms))


def soon() -> float:
    return time.monotonic() + PATIENCE_S


def call_of(body: dict[str, Any], call_id: str = "call-1") -> StampedCall:
    return lifetime_of(msgspec.structs.replace(change_from(body), call_id=call_id.encode()))


async def shown(archive: Archive, call_id: str = "call-1") -> dict[str, Any] | None:
    """The record as a poll would show it."""
    found = await archive.find(call_id.encode(), deadline=soon())
    if found is None:
        return None
    decoded: dict[str, Any] = json.loads(render_record(found.call, "full"))
    return decoded


def record_of(stamped: StampedCall) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(render_record(stamped.call, "full"))
    return decoded


def without_life(record: dict[str, Any] | None) -> dict[str, Any]:
    """What both a live and an archived record have."""
    assert record is not None
    return {name: value for name, value in record.items() if name not in ("expires_at", "archived")}


async def test_every_sample_is_read_as_it_was_written(archive: Archive) -> None:
    names = [name for name in sample_names() if name != "session.created-no-call"]
    calls = {name: call_of(sample(name), f"call-{number}") for number, name in enumerate(names)}
    assert (await archive.write([*calls.values()], {})).failed == {}
    for name, written in calls.items():
        call_id = written.call.call_id.decode()
        assert without_life(await shown(archive, call_id)) == without_life(record_of(written)), name


async def test_the_row_has_the_columns_of_the_design_with_their_values(
    archive: Archive, postgres_process: PostgresProcess, database: str
) -> None:
    body = full_report()
    body["message"]["call"]["metadata"] = {"serviceRequestId": "4b5b9d3e-0000-4000-8000-000000000001", "own": 1}
    await archive.write([call_of(body)], {})
    row = json.loads(postgres_process.ask("SELECT row_to_json(r) FROM vapi_call_results r", database))
    assert row.keys() == COLUMNS.keys()
    assert (row["status"], row["data_status"], row["outcome"]) == ("ended", "complete", "completed")
    assert row["transcript"] == {"text": "AI: Hello.\nUser: Hi.\n"}
    assert row["service_request_id"] == "4b5b9d3e-0000-4000-8000-000000000001"
    assert row["raw_webhook_payload"] is None


async def test_any_order_of_a_calls_lifetimes_ends_in_the_same_row(archive: Archive) -> None:
    life = [
        status_update("queued"),
        status_update("ended", endedReason="assistant-ended-call"),
        message("transcript", transcript="AI: Hel", customer={"number": PHONE}),
        full_report(),
    ]
    calls = [call_of(body) for body in life]
    expected = without_life(record_of(functools.reduce(merge_calls, calls)))
    for number, order in enumerate(itertools.permutations(calls)):
        call_id = f"call-{number}".encode()
        for stamped in (*order, order[0]):
            call = msgspec.structs.replace(stamped.call, call_id=call_id)
            await archive.write([msgspec.structs.replace(stamped, call=call)], {})
        record = without_life(await shown(archive, call_id.decode()))
        assert record | {"id": "", "call_id": ""} == expected | {"id": "", "call_id": ""}


async def test_a_repetition_does_not_touch_the_row(
    archive: Archive, postgres_process: PostgresProcess, database: str
) -> None:
    stamped = call_of(full_report())
    question = "SELECT xmin, updated_at FROM vapi_call_results"
    await archive.write([stamped], {})
    before = postgres_process.ask(question, database)
    await archive.write([stamped, stamped], {})
    assert postgres_process.ask(question, database) == before


async def test_a_change_by_somebody_else_shows_in_updated_at(
    archive: Archive, postgres_process: PostgresProcess, database: str
) -> None:
    await archive.write([call_of(full_report())], {})
    postgres_process.ask("UPDATE vapi_call_results SET location = 'Bonn'", database)
    assert postgres_process.ask("SELECT updated_at > created_at FROM vapi_call_results", database) == "t"


async def test_replicas_that_write_one_call_at_once_lose_nothing(
    archive: Archive, postgres_process: PostgresProcess, database: str
) -> None:
    other = open_archive(postgres_process.url_of(database))
    facts = ["assistant_id", "phone_number_id", "location", "urgency", "service_type", "provider_name", "call_type"]
    calls = [[said(f"call-{number}", {name: '"x"'}) for number in range(20)] for name in facts]
    try:
        await asyncio.gather(*((archive, other)[number % 2].write(each, {}) for number, each in enumerate(calls)))
    finally:
        await other.close()
    for number in range(20):
        found = await archive.find(f"call-{number}".encode(), deadline=soon())
        assert found is not None
        assert found.call.facts.known().keys() == {*facts}


async def test_a_deleted_call_comes_back_only_by_what_was_said_later(archive: Archive) -> None:
    old = lifetime_of(change(at_ms=5000, rank=9, cost="1"))
    new = changed_at(6500, lifetime_of(change(at_ms=6001, location='"Bonn"')))
    await archive.write([old], {})
    await archive.write([], {b"call-1": 6000})
    assert await shown(archive) is None
    await archive.write([old], {b"call-1": 5500})
    assert await shown(archive) is None
    await archive.write([old, new], {})
    found = await archive.find(b"call-1", deadline=soon())
    assert found is not None
    assert found.call.facts == Facts(location=b'"Bonn"')
    # The stream may bring the deletion after what was said later.
    await archive.write([], {b"call-1": 6000})
    assert await shown(archive) is not None


async def test_a_deleted_call_has_no_row_although_its_senders_clock_is_ahead(archive: Archive) -> None:
    ahead = changed_at(5000, lifetime_of(change(at_ms=9000, location='"Bonn"')))
    await archive.write([ahead], {})
    await archive.write([], {b"call-1": 6000})
    await archive.write([ahead], {})
    assert await shown(archive) is None


async def test_a_row_loses_what_was_said_once_vapi_has_deleted_the_call(
    archive: Archive, postgres_process: PostgresProcess, database: str
) -> None:
    report = msgspec.structs.replace(call_of(full_report()), raw=b'{"a":1}', raw_stamp=b"9" * 17)
    stamp = CALL_DELETED_OFFSET_MS + 1
    deleted = lifetime_of(change(rank=CALL_DELETED_RANK, at_ms=stamp, ending=3, ended_reason='"call-deleted"'))
    deleted = msgspec.structs.replace(deleted, deleted_at_vapi=True)
    for order in ([report, deleted, report], [deleted, report]):
        for stamped in order:
            await archive.write([stamped], {})
        record = await shown(archive)
        assert record is not None
        assert (record["transcript"], record["messages"], record["recording_url"]) == (None, None, None)
        assert (record["analysis_summary"], record["analysis_structured_data"]) == (None, None)
        assert record["ended_reason"] == report.call.facts.ended_reason.decode().strip('"')
        raw = "SELECT count(*) FROM vapi_call_results WHERE raw_webhook_payload IS NOT NULL"
        assert postgres_process.ask(raw, database) == "0"
        postgres_process.ask("DELETE FROM vapi_call_results", database)


async def test_a_forgotten_number_leaves_no_row_and_none_is_made_by_what_was_said_before(archive: Archive) -> None:
    as_customer = lifetime_of(change("c1", at_ms=5000, customer_phone=f'"{PHONE}"'))
    as_provider = lifetime_of(change("c2", at_ms=5000, provider_phone='"+1 (864) 555-0123"'))
    of_others = lifetime_of(change("c3", at_ms=5000, customer_phone='"+18645550124"'))
    await archive.write([as_customer, as_provider, of_others], {})

    assert sorted(await archive.forget("+1 864 555 0123", now_ms=6000)) == [b"c1", b"c2"]

    late = lifetime_of(change("c4", at_ms=5999, customer_phone=f'"{PHONE}"'))
    later = lifetime_of(change("c5", at_ms=6001, customer_phone=f'"{PHONE}"'))
    await archive.write([as_customer, as_provider, of_others, late, later], {})
    found = await archive.find_many([b"c1", b"c2", b"c3", b"c4", b"c5"], (), deadline=soon())
    assert sorted(found) == [b"c3", b"c5"]


@pytest.mark.parametrize(
    "spelling", ["sip:+18645550123@h.example", "SIPS:+1-864-5550123;a=1@h", "\u2003tel:+1\u00a0864\t5550123 "]
)
async def test_a_number_is_forgotten_however_it_was_spelled(archive: Archive, spelling: str) -> None:
    call = lifetime_of(change("c1", at_ms=5000, provider_phone=json.dumps(spelling)))
    await archive.write([call], {})
    assert await archive.forget(PHONE, now_ms=6000) == [b"c1"]
    await archive.write([call], {})
    assert await archive.find(b"c1", deadline=soon()) is None


async def test_only_requests_that_are_there_are_linked(
    archive: Archive, postgres_process: PostgresProcess, database: str
) -> None:
    known, unknown = "4b5b9d3e-0000-4000-8000-00000000000a", "4b5b9d3e-0000-4000-8000-00000000000b"

    def linked(call_id: str, request_id: str) -> StampedCall:
        return lifetime_of(change(call_id, at_ms=1, service_request_id=f'"{request_id}"', metadata='{"a":1}'))

    await archive.write([linked("before", unknown), linked("odd", "request 7")], {})
    postgres_process.ask(
        f"DELETE FROM vapi_call_results WHERE call_id = 'before'; "
        f"CREATE TABLE service_requests (id uuid PRIMARY KEY); INSERT INTO service_requests VALUES ('{known}'); "
        "ALTER TABLE vapi_call_results ADD FOREIGN KEY (service_request_id) REFERENCES service_requests (id)",
        database,
    )
    result = await archive.write([linked("c1", known.upper()), linked("c2", unknown)], {})
    assert result.failed == {}
    rows = postgres_process.ask("SELECT call_id, service_request_id FROM vapi_call_results ORDER BY 1", database)
    assert rows.split() == [f"c1|{known}", "c2|", "odd|"]


async def test_a_call_that_cannot_be_a_row_is_named_and_the_others_are_written(archive: Archive) -> None:
    timeless = lifetime_of(change("timeless", at_ms=1, started_at='"some day"'))
    damaged = lifetime_of(change("damaged", at_ms=1, customer_spoke='{"not": "boolean"}'))
    good = [lifetime_of(change(f"good-{number}", at_ms=1, location='"x"')) for number in range(9)]
    result = await archive.write([*good[:5], timeless, damaged, *good[5:]], {})
    assert result.failed.keys() == {b"timeless", b"damaged"}
    assert "some day" not in str(result.failed)
    found = await archive.find_many([each.call.call_id for each in good], (), deadline=soon())
    assert len(found) == 9


async def test_a_call_that_somebodys_trigger_refuses_is_named_and_the_others_are_written(
    archive: Archive, postgres_process: PostgresProcess, database: str
) -> None:
    refuse = "BEGIN IF NEW.call_id = 'refused' THEN RAISE EXCEPTION 'no'; END IF; RETURN NEW; END"
    postgres_process.ask(
        f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ {refuse} $$;
        CREATE TRIGGER refuse BEFORE INSERT ON vapi_call_results FOR EACH ROW EXECUTE FUNCTION refuse()
        """,
        database,
    )
    names = ("one", "refused", "other")
    written = await archive.write([said(name, {"location": '"Bonn"'}) for name in names], {})
    assert [*written.failed] == [b"refused"]
    assert [name for name in names if await shown(archive, name)] == ["one", "other"]


async def test_large_calls_are_written_in_several_transactions_and_deletions_count_for_all(archive: Archive) -> None:
    large = json.dumps(["x" * 3_000_000])
    calls = [said(name, {"messages": large}, at_ms=at_ms) for name, at_ms in (("a", 1), ("b", 1), ("c", 9), ("d", 9))]
    assert (await archive.write(calls, {b"b": 5, b"c": 5, b"other": 5})).failed == {}
    assert sorted(await archive.find_many([b"a", b"b", b"c", b"d"], (), deadline=soon())) == [b"a", b"c", b"d"]


async def test_a_stamp_that_somebody_gave_to_a_column_that_is_no_fact_counts_for_nothing(
    archive: Archive, postgres_process: PostgresProcess, database: str
) -> None:
    await archive.write([said("call-1", {"location": '"x"'})], {})
    more = """fact_stamps || '{"version": "90000000000000001", "unheard_of": "90000000000000001"}'"""
    postgres_process.ask(f"UPDATE vapi_call_results SET fact_stamps = {more}", database)
    found = await archive.find(b"call-1", deadline=soon())
    assert found is not None
    assert found.stamps.keys() == {"location"}


async def test_a_row_that_somebody_made_unreadable_harms_no_other(
    archive: Archive, postgres_process: PostgresProcess, database: str
) -> None:
    calls = [said(name, {"location": '"x"'}) for name in ("good", "bad")]
    await archive.write(calls, {})
    postgres_process.ask("UPDATE vapi_call_results SET data_status = 'odd' WHERE call_id = 'bad'", database)
    assert [*await archive.find_many([b"good", b"bad"], (), deadline=soon())] == [b"good"]
    assert (await archive.write(calls, {})).failed == {b"bad": "KeyError"}


@pytest.mark.parametrize("number", ["1e400", "1e-400", "9" * 140_000, "0." + "1" * 20_000, "1E+131072"])
async def test_a_number_that_postgresql_cannot_hold_is_text_in_the_row(archive: Archive, number: str) -> None:
    metadata = '{"n":NUMBER,"s":"1e400","x":[1e5,-1.5e-7]}'.replace("NUMBER", number)
    assert (await archive.write([said("call-1", {"metadata": metadata})], {})).failed == {}
    record = await shown(archive)
    assert record is not None
    assert record["metadata"] == {"n": number, "s": "1e400", "x": [1e5, -1.5e-7]}


async def test_odd_text_goes_through_every_field(archive: Archive) -> None:
    odd = "'; DROP TABLE vapi_call_results; -- \\ \" \x00 \\u0000 \ud83d\ude00".encode(
        "utf-16", "surrogatepass"
    ).decode("utf-16")
    text = json.dumps(odd)
    fields = dict.fromkeys(
        ("customer_phone", "assistant_id", "recording_url", "analysis_summary", "provider_phone", "location",
         "service_request_id", "transcript", "forwarded_to"), text,
    )  # fmt: skip
    whole = said("call-1", fields | {"messages": f"[{text}]", "metadata": f"{{{text}:{text}}}"})
    assert (await archive.write([whole], {})).failed == {}
    record = await shown(archive)
    assert record is not None
    expected = odd.replace("\x00", "\ufffd")
    assert {record[name] for name in fields if name not in ("transcript", "service_request_id")} == {expected}
    assert record["transcript"] == {"text": expected}
    assert record["metadata"] == {expected: expected}
    assert record["messages"] == [expected]
    assert record["service_request_id"] is None
    entries = await archive.find_entries(odd, offset=0, limit=10, deadline=soon())
    assert entries.count == 1


async def test_lone_surrogates_and_huge_numbers_of_webhooks_become_rows(archive: Archive) -> None:
    raw = json.dumps(full_report()).replace("AI: Hello.", "AI: \\ud800 \\u0000 Hello.")
    body = json.loads(raw)
    body["message"]["artifact"]["messages"] = [{"role": "user", "message": "hi \ud83d", "time": 10**300}]
    body["message"]["cost"] = 10**400
    body["message"]["durationSeconds"] = 1e300
    body["message"]["call"]["metadata"] = {"n\x00": 10**400, "urgency": "\udc00"}
    assert (await archive.write([call_of(body)], {})).failed == {}
    assert await shown(archive) is not None
