"""What Redis takes never waits in the spool behind what it does not take."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from service.calls.stored_call import CallChange, Merged
from service.errors import StoreUnavailableError
from service.store import spool_file
from service.store.bucket_pauses import LONGEST_PAUSE_S, SHORTEST_PAUSE_S, BucketPauses
from service.store.call_codec import SPOOL_LAYOUT, encode_spooled
from service.store.keys import BUCKETS, bucket_of
from service.store.spool import Spool
from service.store.spool_drain import DRAIN_BATCH
from service.store.spool_file import SpoolFile
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.store_events import change

MERGED = Merged(is_deleted=False, is_changed=True, became_final=None, became_complete=False)
ROOMY = 1_000_000_000
DEAD = range(11)
"""The buckets of a dead shard: a third, as of three masters."""

MANY = 100_000


class Shards:
    """Takes what is of living buckets; what is of dead ones fails after a second, as a shard that hangs does."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.dead: Iterable[int] = DEAD
        self.poisoned: set[str] = set()
        self.failures = 0
        self.fails_after_s = 0.2

    async def merge(self, one: CallChange) -> Merged:
        if bucket_of(one.call_id) in self.dead or one.call_id.decode() in self.poisoned:
            self.failures += 1
            await asyncio.sleep(self.fails_after_s)
            raise StoreUnavailableError("the shard is dead")
        self.taken.append(one.call_id.decode())
        return MERGED


def ids_in(buckets: Iterable[int], count: int, prefix: str = "call") -> list[str]:
    found: list[str] = []
    number = 0
    while len(found) < count:
        call_id = f"{prefix}-{number}"
        number += 1
        if bucket_of(call_id.encode()) in buckets:
            found.append(call_id)
    return found


def fill(folder: Path, call_ids: Iterable[str], **fields: int) -> None:
    """Put many at once, as an outage leaves them behind."""
    file = SpoolFile(folder, ROOMY)
    one = msgspec.msgpack.decode(encode_spooled(change(status=1)), type=dict[str, Any]) | fields
    packed = [(call_id, msgspec.msgpack.encode(one | {"call_id": call_id.encode()})) for call_id in call_ids]
    file.put(packed, round(time.time() * 1000))
    file.close()


Opened = Callable[[], Spool]


@pytest.fixture
async def open_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Opened]:
    """Opens one more spool over the same file. None of them gives up while another one's commit takes long."""
    monkeypatch.setattr(spool_file, "LOCK_WAIT_S", PATIENCE_S)
    opened: list[Spool] = []

    def open_one() -> Spool:
        opened.append(Spool(str(tmp_path), ROOMY))
        return opened[-1]

    yield open_one
    for spool in opened:
        await spool.close()


async def drain_until_taken(spool: Spool, shards: Shards, call_ids: Iterable[str]) -> None:
    wanted = set(call_ids)

    async def are_taken() -> bool:
        await spool.drain_some(shards.merge, lambda _: None)
        return wanted <= set(shards.taken)

    await eventually(are_taken, within_s=60.0)


async def test_what_a_living_shard_takes_does_not_wait_behind_what_a_dead_one_does_not(
    open_spool: Opened, tmp_path: Path
) -> None:
    shards = Shards()
    fill(tmp_path, ids_in(DEAD, 5 * DRAIN_BATCH))
    living = ids_in(range(11, BUCKETS), 3 * DRAIN_BATCH)
    fill(tmp_path, living)

    await drain_until_taken(open_spool(), shards, living)

    assert shards.failures < 2 * DRAIN_BATCH + 50, "the dead shard is asked by probes alone"


async def test_a_hundred_thousand_changes_of_a_dead_shard_cost_little_and_are_drained_once_it_is_back(
    open_spool: Opened, tmp_path: Path
) -> None:
    shards = Shards()
    dead = ids_in(DEAD, MANY)
    fill(tmp_path, dead)
    living = ids_in(range(11, BUCKETS), DRAIN_BATCH)
    fill(tmp_path, living)
    spool = open_spool()
    await drain_until_taken(spool, shards, living)

    began = time.process_time()
    rounds = 50
    for _ in range(rounds):
        await spool.drain_some(shards.merge, lambda _: None)
        await asyncio.sleep(0.01)
    assert (time.process_time() - began) / rounds < 0.1

    shards.dead = ()
    await drain_until_taken(spool, shards, dead[1000:1100])


def test_a_hundred_thousand_waiting_changes_are_claimed_by_an_index(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path, ROOMY)
    plan = file._database.execute(
        "EXPLAIN QUERY PLAN SELECT claimed_until_ms, id FROM spooled WHERE rejected IS NULL AND bucket = 1"
        " AND claimed_until_ms <= 1 ORDER BY claimed_until_ms, id LIMIT 64"
    ).fetchall()
    file.close()
    assert [step[3] for step in plan] == ["SEARCH spooled USING INDEX due (bucket=? AND claimed_until_ms<?)"]


async def test_a_change_that_always_fails_keeps_nobody_of_its_own_bucket_waiting(
    open_spool: Opened, tmp_path: Path
) -> None:
    shards = Shards()
    shards.dead = ()
    poisoned, *behind = ids_in({3}, 3 * DRAIN_BATCH)
    shards.poisoned = {poisoned}
    spool = open_spool()
    fill(tmp_path, [poisoned])
    await spool.drain_some(shards.merge, lambda _: None)
    fill(tmp_path, behind)

    await drain_until_taken(spool, shards, behind)

    assert spool.held.waiting == 1
    shards.poisoned = set()
    await drain_until_taken(spool, shards, [poisoned])


async def test_what_another_version_wrote_waits_for_it_and_keeps_nobody_waiting(
    open_spool: Opened, tmp_path: Path
) -> None:
    shards = Shards()
    shards.dead = ()
    fill(tmp_path, ids_in(range(BUCKETS), 5 * DRAIN_BATCH, "other"), layout=SPOOL_LAYOUT + 1)
    mine = ids_in(range(BUCKETS), 2 * DRAIN_BATCH)
    fill(tmp_path, mine)
    spool = open_spool()

    await drain_until_taken(spool, shards, mine)

    assert (spool.held.waiting, spool.held.rejected) == (5 * DRAIN_BATCH, 0)


async def test_a_change_on_which_the_merge_breaks_keeps_nobody_of_its_batch_in_the_spool(
    open_spool: Opened, tmp_path: Path
) -> None:
    breaking, *others = ids_in(range(BUCKETS), 20)
    fill(tmp_path, [breaking, *others])
    spool = open_spool()

    async def merge(one: CallChange) -> Merged:
        if one.call_id.decode() == breaking:
            raise TypeError("nobody foresaw this")
        return MERGED

    assert await spool.drain_some(merge, lambda _: None) == len(others)
    assert (spool.held.waiting, spool.held.rejected) == (1, 0)


async def test_three_processes_over_a_dead_shard_merge_each_change_once_and_lose_none(
    open_spool: Opened, tmp_path: Path
) -> None:
    shards = Shards()
    call_ids = ids_in(range(BUCKETS), 1500)
    fill(tmp_path, call_ids)
    spools = [open_spool() for _ in range(3)]
    living = [call_id for call_id in call_ids if bucket_of(call_id.encode()) not in DEAD]
    await asyncio.gather(*(drain_until_taken(spool, shards, living) for spool in spools))

    shards.dead = ()
    await asyncio.gather(*(drain_until_taken(spool, shards, call_ids) for spool in spools))

    assert sorted(shards.taken) == sorted(call_ids)


def test_pauses_of_a_bucket_grow_up_to_a_bound() -> None:
    pauses, now, lengths = BucketPauses(), 0.0, []
    for _ in range(20):
        pauses.lengthen(5, now)
        assert 5 not in pauses.sound()
        before = now
        while 5 not in pauses.to_probe(now):
            now += 0.05
        lengths.append(round(now - before, 1))
        now += 1.0  # the probe takes its time to fail
    assert lengths == sorted(lengths)
    assert lengths[0] < 2 * SHORTEST_PAUSE_S
    assert LONGEST_PAUSE_S <= lengths[-1] < LONGEST_PAUSE_S + 0.1
    pauses.end(5)
    assert pauses.sound() == list(range(BUCKETS))
