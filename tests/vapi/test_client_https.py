"""Over HTTPS: whom the key is told, and what a proxy on the way changes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from service.errors import UpstreamError
from service.load_config import load_settings
from service.vapi.client import VapiClient
from tests.support.certificates import Authority
from tests.support.fake_vapi import FakeVapi
from tests.support.fake_vapi_server import LoopbackServer, Reply, read_request
from tests.support.talking_server import TalkingServer

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


@asynccontextmanager
async def https_server(authority: Authority, talk: Talk) -> AsyncIterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("IP:127.0.0.1"))
    async with TalkingServer(talk, tls=context) as server:
        yield f"https://127.0.0.1:{server.port}"


@asynccontextmanager
async def client_of(url: str) -> AsyncIterator[VapiClient]:
    client = VapiClient(load_settings({"VAPI_API_URL": url, "VAPI_API_KEY": "a-key"}), write_s=2)
    yield client
    await client.close()


async def test_a_call_is_placed_over_https(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    async def place(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await read_request(reader)).headers["authorization"] == "Bearer a-key"
        writer.write(Reply(201, {"id": "call-1"}).encoded(is_head=False))
        await writer.drain()
        writer.close()

    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    async with https_server(authority, place) as url, client_of(url) as client:
        assert await client.create_call({}) == b'{"id": "call-1"}'


async def test_a_strangers_certificate_means_that_nothing_was_said_and_nobody_phoned(authority: Authority) -> None:
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read())
        writer.close()

    async with https_server(authority, listen) as url, client_of(url) as client:
        with pytest.raises(UpstreamError) as raised:
            await client.create_call({})
    assert (str(raised.value), raised.value.is_outcome_unknown) == ("VAPI cannot be reached", False)
    assert heard == []


async def test_a_proxy_that_refuses_means_that_nobody_was_phoned(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = LoopbackServer(lambda _: Reply(407, b"")).start()
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with client_of("https://vapi.example.invalid") as client:
        with pytest.raises(UpstreamError) as raised:
            await client.create_call({})
    proxy.stop()
    assert (str(raised.value), raised.value.is_outcome_unknown) == ("VAPI cannot be reached", False)
    (request,) = proxy.received
    assert (request.method, "authorization" in request.headers) == ("CONNECT", False)


async def test_a_loopback_address_is_reached_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with FakeVapi(api_key="a-key") as vapi, client_of(vapi.url) as client:
        assert await client.get_call("call-1") is None
