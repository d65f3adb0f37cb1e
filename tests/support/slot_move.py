"""One slot of a Cluster on its way from one master to another, and the calls that it holds."""

from __future__ import annotations

from typing import Any

from service.store.keys import BUCKETS, Keys, bucket_of
from tests.support.cluster_setup import ClusterSetup
from tests.support.failover import slots_of
from tests.support.redis_server import RedisProcess
from tests.support.redis_topologies import ask

KEYS = Keys("vapi")


class Move:
    """In the steps that ``redis-cli --cluster reshard`` takes."""

    def __init__(self, cluster: ClusterSetup, slot: int) -> None:
        self._masters = cluster.masters()
        self.slot = slot
        self.source = next(master for master in self._masters if slot in slots_of(master))
        self.target = next(master for master in self._masters if master is not self.source)

    def begin(self) -> None:
        self._set_slot(self.target, "IMPORTING", self.source)
        self._set_slot(self.source, "MIGRATING", self.target)

    def carry(self) -> None:
        while keys := self._keys():
            names = [key.decode() for key in keys]
            ask(self.source, "MIGRATE", "127.0.0.1", str(self.target.port), "", "0", "5000", "KEYS", *names)

    def finish(self) -> None:
        self.carry()
        for node in (self.target, self.source, *self._masters):
            self._set_slot(node, "NODE", self.target)

    def _keys(self) -> list[bytes]:
        keys: list[bytes] = ask(self.source, "CLUSTER", "GETKEYSINSLOT", str(self.slot), "100")
        return keys

    def _set_slot(self, node: RedisProcess, state: str, other: RedisProcess) -> None:
        ask(node, "CLUSTER", "SETSLOT", str(self.slot), state, _text(ask(other, "CLUSTER", "MYID")))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def call_ids_in(bucket: int, prefix: str, number: int) -> list[str]:
    found = (call_id for n in range(number * BUCKETS * 3) if bucket_of((call_id := f"{prefix}-{n}").encode()) == bucket)
    return [next(found) for _ in range(number)]
