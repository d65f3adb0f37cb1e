"""Commands to a Redis Cluster: a pipeline per master, and a map of each bucket's master, renewed when it proves wrong.

redis-py's own cluster client is not used for commands: its pipeline refuses EVALSHA, and a renewal of its map walks all
16,384 slots while we use one per bucket. We use redis-py's connections, errors and slot function.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from redis.asyncio.connection import AbstractConnection
from redis.crc import key_slot
from redis.exceptions import AskError, MovedError, RedisError

from service.errors import StoreUnavailableError
from service.redis_client.command import unavailable
from service.redis_client.pipeline import Pipeline
from service.redis_client.redis_connection import RETRY_PAUSE_S
from service.redis_client.wrong_topology import IS_NO_CLUSTER, WrongTopology

log = structlog.get_logger(__name__)

Address = tuple[str, int]

MAX_REDIRECTS: Final = 3
"""Redirects followed at once; later ones follow a pause, as nodes that disagree about a master redirect in circles."""

ASK_NODE_S: Final = 0.3
"""Longest wait for a node's map of the Cluster. The other nodes know it as well."""


@dataclass(frozen=True, slots=True)
class _Map:
    """A Cluster as one of its nodes sees it. Maps that name the same masters are equal."""

    owners: tuple[tuple[int, Address], ...]
    """(bucket, master) for each bucket that has a master."""
    nodes: tuple[Address, ...] = field(compare=False)


class ClusterPipeline:
    """The same commands as Pipeline; each goes to the master of its keys' bucket.

    Args:
        connect_to: makes a connection to a node, not open yet.
        seeds: nodes to ask first.
        bucket_keys: any key of each bucket, in order.
        connections, timeout_s, wait_replicas, on_roundtrip: as for Pipeline.
    """

    def __init__(
        self,
        connect_to: Callable[[Address], AbstractConnection],
        seeds: list[Address],
        bucket_keys: list[bytes],
        *,
        connections: int,
        timeout_s: float,
        wait_replicas: int,
        on_roundtrip: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._on_roundtrip = on_roundtrip
        self._connect_to = connect_to
        self._seeds = seeds
        self._slots = [key_slot(key) for key in bucket_keys]
        self._connections = connections
        self._timeout_s = timeout_s
        self._wait_replicas = wait_replicas
        self._owners: list[Address | None] = [None] * len(bucket_keys)
        self._nodes: list[Address] = []
        self._pipelines: dict[Address, Pipeline] = {}
        self._renewal: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._wrong_topology = WrongTopology()

    @property
    def topology_problem(self) -> str | None:
        return self._wrong_topology.problem

    def start(self) -> None:
        """Nothing to do: connections are made when they are first needed."""

    async def close(self) -> None:
        if self._renewal is not None:
            await self._renewal
        await asyncio.gather(*(pipeline.close() for pipeline in self._pipelines.values()), *self._closing)

    def any_node(self) -> Address:
        """A node of the last map, for the subscription to changes: any node can serve it."""
        return random.choice(self._nodes or self._seeds)  # noqa: S311 - spreads load

    async def find_masters(self) -> dict[str, int]:
        """The masters by address, each with one of its buckets; ``unknown`` with a bucket that has no known master."""
        if None in self._owners:
            await self._renewed(time.monotonic() + ASK_NODE_S)
        return {
            f"{owner[0]}:{owner[1]}" if owner is not None else "unknown": bucket
            for bucket, owner in enumerate(self._owners)
        }

    async def execute(
        self,
        *args: Any,
        bucket: int = 0,
        script: bytes | None = None,
        coalesce_key: object = None,
        is_durable: bool = False,
        deadline: float | None = None,
    ) -> Any:
        """The reply to a command on keys of that bucket. As ``Pipeline.execute``, over redirects and failovers."""
        if deadline is None:
            deadline = time.monotonic() + self._timeout_s
        error = unavailable(ConnectionError(self.topology_problem or "nobody is known to have the keys"))
        redirected_to: Address | None = None
        redirects = 0
        while time.monotonic() < deadline:
            owner = redirected_to or self._owners[bucket]
            needs_asking = redirected_to is not None
            redirected_to = None
            if owner is not None:
                try:
                    return await self._pipeline_to(owner).execute(
                        *args, script=script, coalesce_key=coalesce_key, is_durable=is_durable, needs_asking=needs_asking,
                        deadline=deadline,
                    )  # fmt: skip
                except AskError as redirect:  # or MovedError, which is derived from it
                    error, named = unavailable(redirect), _named_by(redirect, owner)
                    if isinstance(redirect, MovedError):
                        self._owners[bucket] = named
                        self._renew()
                    else:
                        redirected_to = named
                    redirects += 1
                    if redirects > MAX_REDIRECTS:
                        await asyncio.sleep(RETRY_PAUSE_S)
                    continue
                except StoreUnavailableError as exc:
                    error = exc
            await self._renewed(deadline)
            await asyncio.sleep(RETRY_PAUSE_S)
        raise error

    def _pipeline_to(self, node: Address) -> Pipeline:
        pipeline = self._pipelines.get(node)
        if pipeline is None:
            pipeline = Pipeline(
                lambda: self._connect_to(node),
                connections=self._connections,
                timeout_s=self._timeout_s,
                wait_replicas=self._wait_replicas,
                is_patient=False,
                on_roundtrip=self._on_roundtrip,
            )
            pipeline.start()
            self._pipelines[node] = pipeline
        return pipeline

    def _renew(self) -> asyncio.Task[None]:
        """Ask the nodes for their maps. Concurrent callers share one inquiry."""
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.get_running_loop().create_task(self._inquire(), name="cluster-map")
        return self._renewal

    async def _renewed(self, deadline: float) -> None:
        await asyncio.wait([self._renew()], timeout=max(0.0, deadline - time.monotonic()))

    async def _inquire(self) -> None:
        """Ask all known nodes at once for their map, until most of them, or all that answer, name the same masters.

        The first answer is not enough: a node that is cut off from the others, but not from us, has an old map.
        """
        known_nodes = list(dict.fromkeys((*self._nodes, *self._seeds)))
        inquiries = [asyncio.ensure_future(self._map_of(node)) for node in known_nodes]
        votes: Counter[_Map] = Counter()
        try:
            for answer in asyncio.as_completed(inquiries):
                try:
                    votes[await answer] += 1
                except (RedisError, OSError, TimeoutError, LookupError, TypeError, ValueError) as exc:
                    log.debug("cluster.node_silent", error=str(exc))
                    if "cluster support disabled" in str(exc):
                        self._wrong_topology.notice(IS_NO_CLUSTER)
                if votes and max(votes.values()) > len(known_nodes) / 2:
                    break
        finally:
            for inquiry in inquiries:
                inquiry.cancel()
            await asyncio.gather(*inquiries, return_exceptions=True)
        if votes:
            self._believe(votes.most_common(1)[0][0])

    async def _map_of(self, node: Address) -> _Map:
        connection = self._connect_to(node)
        try:
            async with asyncio.timeout(ASK_NODE_S):
                await connection.send_command("CLUSTER", "SLOTS")
                return self._map_in(await connection.read_response(), node)
        finally:
            await connection.disconnect(nowait=True)

    def _map_in(self, ranges: list[Any], node: Address) -> _Map:
        """https://redis.io/docs/latest/commands/cluster-slots/: ``[first slot, last slot, master, replica...]`` each."""
        nodes: list[Address] = []
        owners: dict[int, Address] = {}
        for first, last, *hosts in ranges:
            addresses = [_address_of((host or b"").decode(), port, node) for host, port, *_ in hosts]
            nodes += addresses
            owners |= {bucket: addresses[0] for bucket, slot in enumerate(self._slots) if first <= slot <= last}
        return _Map(tuple(sorted(owners.items())), tuple(dict.fromkeys(nodes)))

    def _believe(self, believed: _Map) -> None:
        for bucket, owner in believed.owners:
            self._owners[bucket] = owner
        self._nodes = list(believed.nodes)
        for gone in self._pipelines.keys() - set(self._nodes):
            closing = asyncio.get_running_loop().create_task(self._pipelines.pop(gone).close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)


def _named_by(redirect: AskError, owner: Address) -> Address:
    return _address_of(redirect.host, redirect.port, owner)


def _address_of(host: str, port: int, node: Address) -> Address:
    """A node that does not know its own name answers "" or "?"; it means the node that was asked."""
    return (node[0] if host in ("", "?") else host), port
