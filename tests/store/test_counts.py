"""The counts of all processes add up, and those of one replica's processes are one replica."""

from __future__ import annotations

from service.redis_client.pipeline import Pipeline
from service.store.counts import CountStore, Replica
from service.store.health import StoreHealth
from service.store.keys import COUNTS_TTL_MS
from tests.support.eventually import eventually
from tests.support.opened_store import OpenedStore, OpenStore
from tests.support.redis_server import RedisProcess

NOW_MS = 1_788_264_000_000


def _process(opened: OpenedStore, replica: str, process_id: int) -> CountStore:
    return CountStore(opened.pipeline, opened.keys, replica_id=replica, process_id=process_id, version="1.2.3")


async def test_counts_are_summed_over_processes(opened: OpenedStore) -> None:
    one, other = _process(opened, "replica-a", 1), _process(opened, "replica-b", 1)
    await one.write({"webhooks.received": 2, "polls.hits": 1}, started_at_ms=NOW_MS, now_ms=NOW_MS)
    await other.write({"webhooks.received": 40}, started_at_ms=NOW_MS, now_ms=NOW_MS)

    sums, _ = await one.read()
    assert sums == {"webhooks.received": 42, "polls.hits": 1}


async def test_a_repeated_write_counts_nothing_twice(opened: OpenedStore) -> None:
    process = _process(opened, "replica-a", 1)
    for received in (2, 2, 3):
        await process.write({"webhooks.received": received}, started_at_ms=NOW_MS, now_ms=NOW_MS)

    sums, _ = await process.read()
    assert sums == {"webhooks.received": 3}


async def test_the_processes_of_a_replica_are_one_replica(opened: OpenedStore) -> None:
    for process_id, started, seen in ((1, 1000, 5000), (2, 900, 4000), (3, 1100, 6000)):
        await _process(opened, "host:8000", process_id).write({}, started_at_ms=NOW_MS + started, now_ms=NOW_MS + seen)
    await _process(opened, "replica-b", 1).write({}, started_at_ms=NOW_MS, now_ms=NOW_MS)

    _, replicas = await _process(opened, "replica-c", 1).read()
    assert sorted(replicas, key=lambda replica: replica.id) == [
        Replica("host:8000", "1.2.3", NOW_MS + 900, NOW_MS + 6000, processes=3),
        Replica("replica-b", "1.2.3", NOW_MS, NOW_MS),
    ]


async def test_a_replica_parks_what_its_processes_park_and_has_the_spool_that_they_share(opened: OpenedStore) -> None:
    for process_id, seen, parked, waiting in ((1, 5000, 30, 7), (2, 4000, 12, 8), (3, -6000, 500, 9)):
        await _process(opened, "replica-a", process_id).write(
            {"polls.hits": 1}, started_at_ms=NOW_MS, now_ms=NOW_MS + seen,
            parked_polls=parked, spool={"bytes": 100, "waiting": waiting, "rejected": 0},
        )  # fmt: skip

    sums, (replica,) = await _process(opened, "replica-b", 1).read()
    assert sums == {"polls.hits": 3}
    assert (replica.parked_polls, replica.spool) == (42, {"bytes": 100, "waiting": 7, "rejected": 0})


async def test_counts_that_the_first_version_wrote_are_read(opened: OpenedStore) -> None:
    process = _process(opened, "replica-a", 1)
    await process.write({"polls.hits": 1}, started_at_ms=NOW_MS, now_ms=NOW_MS)
    await opened.redis.hdel(opened.keys.counts(b"replica-a:1"), "now.parked_polls")

    assert await process.read() == ({"polls.hits": 1}, [Replica("replica-a", "1.2.3", NOW_MS, NOW_MS)])


async def test_with_nobody_counting_there_is_nothing_to_read(opened: OpenedStore) -> None:
    assert await _process(opened, "replica-a", 1).read() == ({}, [])


async def test_a_process_whose_counts_are_gone_is_left_out(opened: OpenedStore) -> None:
    gone, here = _process(opened, "replica-a", 1), _process(opened, "replica-b", 1)
    for process in (gone, here):
        await process.write({"polls.hits": 1}, started_at_ms=NOW_MS, now_ms=NOW_MS)
    await opened.redis.delete(opened.keys.counts(b"replica-a:1"))

    sums, replicas = await here.read()
    assert (sums, [replica.id for replica in replicas]) == ({"polls.hits": 1}, ["replica-b"])


async def test_counts_expire_and_forget_processes_not_seen_for_two_hours(opened: OpenedStore) -> None:
    await _process(opened, "replica-old", 1).write({"polls.hits": 9}, started_at_ms=NOW_MS, now_ms=NOW_MS)
    later = NOW_MS + COUNTS_TTL_MS
    await _process(opened, "replica-new", 1).write({"polls.hits": 1}, started_at_ms=NOW_MS, now_ms=later)

    sums, _ = await _process(opened, "replica-new", 1).read()
    assert sums == {"polls.hits": 1}
    for key in await opened.keys_in_redis():
        assert 0 < await opened.redis.pttl(key) <= COUNTS_TTL_MS


async def test_a_store_that_takes_writes_is_healthy(opened: OpenedStore) -> None:
    probe = await StoreHealth(opened.pipeline, opened.keys).probe()

    assert (probe.is_writable, probe.problem) == (True, None)
    [probed] = await opened.keys_in_redis()
    assert 0 < await opened.redis.pttl(probed) <= 10_000


async def test_probes_close_together_ask_once(opened: OpenedStore) -> None:
    health = StoreHealth(opened.pipeline, opened.keys)

    async def is_kept() -> bool:
        return await health.probe() == await health.probe()

    await eventually(is_kept)
    first = await health.probe()

    async def is_asked_again() -> bool:
        return await health.probe() != first

    await eventually(is_asked_again)


async def test_a_demoted_redis_is_not_healthy_though_it_reads_well(open_on: OpenStore) -> None:
    opened = await open_on(STORE_TIMEOUT_S=1.2)
    await opened.send("REPLICAOF", "127.0.0.1", "1")

    probe = await StoreHealth(opened.pipeline, opened.keys).probe()

    assert not probe.is_writable
    assert probe.problem is not None
    assert "read only" in probe.problem


async def test_the_problem_of_a_hung_redis_has_words(open_on: OpenStore, own_redis: RedisProcess) -> None:
    opened = await open_on(STORE_TIMEOUT_S=1.2)
    await opened.pipeline.execute(b"PING")
    own_redis.pause()

    probe = await StoreHealth(opened.pipeline, opened.keys).probe()

    own_redis.resume()
    assert not probe.is_writable
    assert probe.problem


async def test_who_has_less_time_than_a_hung_redis_is_told_that_it_is_silent(
    open_on: OpenStore, own_redis: RedisProcess
) -> None:
    opened = await open_on(STORE_TIMEOUT_S=1.0)
    await opened.pipeline.execute(b"PING")
    own_redis.pause()

    probe = await StoreHealth(opened.pipeline, opened.keys).probe(within_s=0.01)

    own_redis.resume()
    assert (probe.is_writable, probe.problem) == (False, "no answer in time")


async def test_a_redis_that_refuses_the_probe_itself_is_not_healthy() -> None:
    process = RedisProcess("--rename-command", "SET", "").start()
    try:
        opened = OpenedStore(process.url, {})
        probe = await StoreHealth(opened.pipeline, opened.keys).probe()
        await opened.close()
    finally:
        process.stop()

    assert not probe.is_writable
    assert probe.problem is not None
    assert "unknown command" in probe.problem


async def test_a_closed_pipeline_is_no_crash(opened: OpenedStore) -> None:
    """One that was never started closes too: the process may be told to stop before it began."""
    await Pipeline(opened.connect, connections=2, timeout_s=1.0).close()
