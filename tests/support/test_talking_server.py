"""The server beneath the fakes closes every connection, whatever its talk is doing."""

from __future__ import annotations

import asyncio
import gc

import pytest

from tests.support.talking_server import TalkingServer


async def forever(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("turns", range(8))
def test_no_connection_is_left_to_the_collector_of_garbage(turns: int) -> None:
    """A warning of a socket that nobody closed would fail this test."""

    async def connect_and_end() -> None:
        async with TalkingServer(forever) as server:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            for _ in range(turns):
                await asyncio.sleep(0)
            writer.transport.abort()

    asyncio.run(connect_and_end())
    gc.collect()


async def test_what_was_written_arrives_before_the_end() -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 1_000_000)

    async with TalkingServer(say) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert len(await reader.read()) == 1_000_000
        writer.close()
