"""The feed behind the streams of all calls' events: what it reads, when it rests, and what a reader gets of a burst."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator

import pytest

from service.jobs.change_feed import ChangeFeed, FeedReader
from service.jobs.change_log import MAX_CALLS
from service.store.changes import Changes
from tests.support.eventually import eventually
from tests.support.opened_store import OpenedStore
from tests.support.store_events import change

BURST = MAX_CALLS + 500


@pytest.fixture
async def changes(opened: OpenedStore) -> AsyncIterator[Changes]:
    """Nothing is heard of Redis: the tests say what changed."""
    yield Changes(opened.connect, opened.keys.changes)


@pytest.fixture
async def feed(opened: OpenedStore, changes: Changes) -> AsyncIterator[ChangeFeed]:
    feed = ChangeFeed(changes, opened.store)
    yield feed
    await feed.close()


async def read_until(reader: FeedReader, wanted: str) -> str:
    """All that the reader gets up to the text."""
    got = ""

    async def is_there() -> bool:
        nonlocal got
        while events := reader.read():
            got += events.text.decode()
        return wanted in got

    await eventually(is_there)
    return got


async def test_calls_are_followed_only_while_somebody_listens(
    opened: OpenedStore, changes: Changes, feed: ChangeFeed
) -> None:
    assert not changes.has_parked
    with FeedReader(feed, None, wants_stats=False) as reader:
        assert changes.has_parked
        await opened.store.merge(change(status=1))
        changes.wake(b"call-1")
        assert '"status":"scheduled"' in await read_until(reader, "call-1")
    assert changes.follower is feed, "the reader may come back soon"
    await feed.close()
    assert not changes.has_parked


async def test_what_a_sweep_finds_again_is_told_once(opened: OpenedStore, changes: Changes, feed: ChangeFeed) -> None:
    with FeedReader(feed, None, wants_stats=False) as reader:
        await opened.store.merge(change("told"))
        changes.wake(b"told")
        assert (await read_until(reader, "told")).count("told") == 1
        changes.wake(b"told")
        await opened.store.merge(change("next"))
        changes.wake(b"next")
        assert "told" not in await read_until(reader, "next")


async def test_a_burst_beyond_all_bounds_is_a_gap_and_ends_with_the_latest(
    opened: OpenedStore, changes: Changes, feed: ChangeFeed
) -> None:
    with FeedReader(feed, None, wants_stats=False) as reader:
        await opened.store.merge(change("last"))
        for number in range(BURST):
            changes.wake(b"nobody-%d" % number)
        changes.wake(b"last")
        got = await read_until(reader, '"last"')
    assert re.findall("^event: (.*)$", got, re.MULTILINE) == ["gap", "call"]


async def test_whoever_comes_back_after_nobody_listened_finds_a_gap(feed: ChangeFeed) -> None:
    with FeedReader(feed, None, wants_stats=False) as reader:
        last_id = reader.begin().text.decode().removeprefix("id: ").strip().encode()
    await feed.close()  # as after a minute without readers
    with FeedReader(feed, last_id, wants_stats=False) as reader:
        assert "event: gap" in await read_until(reader, "gap")


async def test_many_streams_are_woken_for_many_changes_at_once(
    opened: OpenedStore, changes: Changes, feed: ChangeFeed
) -> None:
    """To wake a thousand streams takes a tenth of a second. Done for each 16 changes, a burst took minutes to arrive."""
    ids = [f"many-{number}" for number in range(256)]
    for call_id in ids:
        await opened.store.merge(change(call_id))
    with FeedReader(feed, None, wants_stats=False) as reader:
        for call_id in ids:
            changes.wake(call_id.encode())
        await reader.wait_until(math.inf)
        events = reader.read()
    assert events is not None
    assert events.count == len(ids)
