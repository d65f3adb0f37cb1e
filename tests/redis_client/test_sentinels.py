"""Which master is believed when Sentinels disagree, are silent, or answer what no Sentinel would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import hiredis
import pytest
from redis.asyncio.sentinel import MasterNotFoundError

from service.redis_client.sentinels import Address, Sentinels
from tests.support.talking_server import TalkingServer

OLD, NEW = ("10.0.0.1", 6379), ("10.0.0.2", 6379)


@dataclass
class ScriptedSentinel:
    """Speaks Redis's protocol and names the master that it is told to; None: it closes every connection."""

    master: Address | None
    epoch: int = 0
    flags: str = "master"
    port: int = 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        while self.master is not None and (chunk := await reader.read(65_536)):
            parser.feed(chunk)
            while (command := parser.gets()) is not False:
                writer.write(self._answer(command))
        writer.close()

    def _answer(self, command: list[bytes]) -> bytes:
        assert self.master is not None
        host, port = self.master
        if command[1].upper() == b"GET-MASTER-ADDR-BY-NAME":
            return _packed(host, port)
        if command[1].upper() == b"MASTER":
            state = {"ip": host, "port": port, "flags": self.flags, "config-epoch": self.epoch}
            return _packed(*(part for pair in state.items() for part in pair))
        return b"+OK\r\n"


@pytest.fixture
async def open_sentinels() -> AsyncIterator[Callable[..., Awaitable[Sentinels]]]:
    opened: list[Sentinels] = []
    servers: list[TalkingServer] = []

    async def open_on(*scripted: ScriptedSentinel) -> Sentinels:
        for one in scripted:
            servers.append(await TalkingServer(one.talk).open())
            one.port = servers[-1].port
        options = {"protocol": 2, "decode_responses": False}
        opened.append(Sentinels([("127.0.0.1", one.port) for one in scripted], "main", options))
        return opened[-1]

    yield open_on
    for sentinels in opened:
        await sentinels.close()
    for server in servers:
        await server.close()


def _packed(*parts: object) -> bytes:
    texts = [str(part) for part in parts]
    return f"*{len(texts)}\r\n".encode() + b"".join(f"${len(text)}\r\n{text}\r\n".encode() for text in texts)


Open = Callable[..., Awaitable[Sentinels]]


async def test_the_newest_configuration_is_believed_even_if_only_one_knows_it(open_sentinels: Open) -> None:
    sentinels = await open_sentinels(ScriptedSentinel(OLD, 4), ScriptedSentinel(OLD, 4), ScriptedSentinel(NEW, 5))

    assert await sentinels.discover_master("main") == NEW


async def test_of_one_configuration_the_majority_is_believed(open_sentinels: Open) -> None:
    sentinels = await open_sentinels(ScriptedSentinel(OLD), ScriptedSentinel(NEW), ScriptedSentinel(NEW))

    assert await sentinels.discover_master("main") == NEW


async def test_nobody_goes_back_to_the_old_master_while_the_one_that_knows_better_is_silent(
    open_sentinels: Open,
) -> None:
    cut_off, knowing = ScriptedSentinel(OLD, 4), ScriptedSentinel(NEW, 5)
    sentinels = await open_sentinels(cut_off, knowing)
    told: list[str] = []
    assert await sentinels.discover_master("main") == NEW
    sentinels.on_new_master.append(lambda: told.append("left"))
    knowing.master = None

    for _ in range(2):  # the second time nothing is left of the connection that was open
        with suppress(MasterNotFoundError):
            assert await sentinels.discover_master("main") == NEW

    assert told == []


async def test_everybody_is_told_once_when_another_master_is_named(open_sentinels: Open) -> None:
    first, second = ScriptedSentinel(OLD, 4), ScriptedSentinel(OLD, 4)
    sentinels = await open_sentinels(first, second)
    told: list[str] = []
    sentinels.on_new_master.append(lambda: told.append("left"))
    for _ in range(2):
        assert await sentinels.discover_master("main") == OLD
    assert told == []

    second.master, second.epoch = NEW, 5
    for _ in range(2):
        assert await sentinels.discover_master("main") == NEW

    assert told == ["left"]


async def test_nobody_connects_to_a_master_that_is_held_for_dead(open_sentinels: Open) -> None:
    sentinels = await open_sentinels(ScriptedSentinel(OLD, flags="s_down,o_down,master"))

    with pytest.raises(MasterNotFoundError):
        await sentinels.discover_master("main")
