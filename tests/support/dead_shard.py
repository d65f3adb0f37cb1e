"""A Cluster of which one shard is dead while the others serve on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

from redis.crc import key_slot

from service.store.keys import BUCKETS, Keys, bucket_of
from tests.support.cluster_setup import ClusterSetup
from tests.support.redis_server import RedisProcess
from tests.support.redis_topologies import ask

SLOT_KEYS = Keys("any").probes
"""The prefix is outside the braces: the slots are the same with every one."""


@dataclass(frozen=True)
class DeadShard:
    master: RedisProcess
    buckets: tuple[int, ...]
    """Those that nobody can reach."""
    living_masters: tuple[RedisProcess, ...]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.master.port}"

    def dead_ids(self, prefix: str, number: int) -> list[str]:
        return _ids(prefix, number, self.buckets)

    def living_ids(self, prefix: str, number: int) -> list[str]:
        return _ids(prefix, number, tuple(bucket for bucket in range(BUCKETS) if bucket not in self.buckets))


def serve_partly(cluster: ClusterSetup) -> None:
    """Have the living shards serve on while another is dead; by default they all refuse then.

    Nobody is promoted either. A dead shard's replica would otherwise stand for election as soon as both run again, and
    what its master took until then would be lost.
    """
    for node in cluster.nodes:
        ask(node, "CONFIG", "SET", "cluster-require-full-coverage", "no")
        ask(node, "CONFIG", "SET", "cluster-replica-no-failover", "yes")


@contextmanager
def partly_serving_cluster() -> Iterator[ClusterSetup]:
    """A Cluster whose living shards serve on while another is dead."""
    cluster = ClusterSetup()
    try:
        cluster.start()
        serve_partly(cluster)
        yield cluster
    finally:
        cluster.stop()


def shard_of(cluster: ClusterSetup, bucket: int) -> DeadShard:
    masters = cluster.masters()
    slots: list[list[object]] = ask(masters[0], "CLUSTER", "SLOTS")
    ports = {}
    for one, key in enumerate(SLOT_KEYS):
        slot = key_slot(key)
        ports[one] = next(owner[1] for first, last, owner, *_ in slots if int(str(first)) <= slot <= int(str(last)))  # type: ignore[index]
    master = next(node for node in cluster.nodes if node.port == ports[bucket])
    buckets = tuple(one for one, port in ports.items() if port == master.port)
    return DeadShard(master, buckets, tuple(node for node in masters if node is not master))


@contextmanager
def one_shard_dead(cluster: ClusterSetup, *, bucket: int = 0) -> Iterator[DeadShard]:
    """The shard of that bucket hangs, its replica too, so that nobody is promoted; afterwards it is as before."""
    shard = shard_of(cluster, bucket)
    followers = [node for node in cluster.nodes if _follows(node, shard.master)]
    for node in (*followers, shard.master):
        node.pause()
    try:
        yield shard
    finally:
        for node in (shard.master, *followers):
            node.resume()


def _follows(node: RedisProcess, master: RedisProcess) -> bool:
    role = node.client.role()
    return bool(role[0] == b"slave" and role[2] == master.port)


def _ids(prefix: str, number: int, buckets: tuple[int, ...]) -> list[str]:
    candidates = (f"{prefix}-{one}" for one in count())
    found = (call_id for call_id in candidates if bucket_of(call_id.encode()) in buckets)
    return [next(found) for _ in range(number)]
