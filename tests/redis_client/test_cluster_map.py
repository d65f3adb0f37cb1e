"""Who is believed when the nodes of a Cluster disagree about who has the keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from redis.asyncio.connection import Connection

from service.redis_client.cluster import Address, ClusterPipeline
from tests.support.answering_redis import AnsweringRedis

HANDSHAKE = frozenset((b"CLIENT",))


def map_naming(master: int, *others: int) -> bytes:
    """A reply to CLUSTER SLOTS: one master has all slots, the others follow it."""
    hosts = b"".join(b"*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n" % port for port in (master, *others))
    return b"*1\r\n*%d\r\n:0\r\n:16383\r\n%b" % (3 + len(others), hosts)


def connect_to(node: Address) -> Connection:
    return Connection(host=node[0], port=node[1], protocol=2)


@asynccontextmanager
async def three_nodes() -> AsyncIterator[list[AnsweringRedis]]:
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(AnsweringRedis()) for _ in range(3)]
        for node in nodes:
            node.fine = HANDSHAKE
        yield nodes


async def master_seen_by(nodes: list[AnsweringRedis]) -> list[str]:
    seeds = [("127.0.0.1", node.port) for node in nodes]
    pipeline = ClusterPipeline(connect_to, seeds, [b"{a}"], connections=1, timeout_s=10.0, wait_replicas=0)
    try:
        while (masters := list(await pipeline.find_masters())) == ["unknown"]:
            pass  # a busy machine let nobody answer in time
        return masters
    finally:
        await pipeline.close()


async def test_a_node_that_was_cut_off_with_an_old_map_is_not_believed_however_soon_it_answers() -> None:
    async with three_nodes() as nodes:
        old, new, third = (node.port for node in nodes)
        nodes[0].answer = map_naming(old, new, third)
        for node in nodes[1:]:
            node.answer = map_naming(new, third)
            node.late_s = 0.02

        assert await master_seen_by(nodes) == [f"127.0.0.1:{new}"]


async def test_one_node_that_answers_is_enough() -> None:
    async with three_nodes() as nodes:
        ports = [node.port for node in nodes]
        nodes[2].answer = map_naming(*ports)
        for node in nodes[:2]:
            node.answer = b"-LOADING Redis is loading the dataset in memory\r\n"

        assert await master_seen_by(nodes) == [f"127.0.0.1:{ports[0]}"]


async def test_nodes_that_agree_are_believed_before_a_silent_one_was_waited_for() -> None:
    async with three_nodes() as nodes:
        ports = [node.port for node in nodes]
        for node in nodes:
            node.answer = map_naming(*ports)
        nodes[0].late_s = 60.0

        async with asyncio.timeout(30):
            assert await master_seen_by(nodes) == [f"127.0.0.1:{ports[0]}"]
