"""The parts of uvicorn and redis-py that we use although they are not public: an update that lacks one is named here."""

from __future__ import annotations

import asyncio
import inspect

import uvicorn
from redis.asyncio.connection import Connection
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState
from uvicorn.supervisors.multiprocess import Multiprocess

from service.redis_client.replies import reader_of
from tests.support.redis_server import RedisProcess


def lacking(owner: object, names: str) -> list[str]:
    return [name for name in names.split() if not hasattr(owner, name)]


async def nobody(scope: object, receive: object, send: object) -> None:
    """An application."""


async def test_uvicorns_protocol_has_what_ours_builds_on() -> None:
    config = uvicorn.Config(nobody, interface="asgi3", ws="none", log_config=None)
    config.load()
    protocol = HttpToolsProtocol(config, ServerState(), {}, asyncio.get_running_loop())
    hooks = "on_message_begin on_headers_complete on_body on_message_complete on_response_complete _start_asgi_task"
    attributes = (
        "app app_state connections cycle expect_100_continue flow headers parser pipeline server_state on_url on_header"
    )
    others = "timeout_keep_alive loop transport logger access_logger connection_made connection_lost"
    assert lacking(protocol, f"{hooks} {attributes} {others}") == []


def test_uvicorns_cycle_has_what_ours_builds_on() -> None:
    takes = inspect.signature(RequestResponseCycle).parameters.keys()
    wanted = (
        "scope transport flow logger access_logger access_log default_headers message_event expect_100_continue "
        "keep_alive on_response"
    )
    assert set(wanted.split()) <= takes
    sets = inspect.getsource(RequestResponseCycle.__init__)
    state = "disconnected response_started response_complete body more_body"
    assert [name for name in state.split() if f"self.{name} " not in sets] == []
    assert lacking(RequestResponseCycle, "send send_500_response") == []
    assert lacking(FlowControl, "pause_reading resume_reading pause_writing resume_writing") == []


def test_uvicorns_supervisor_takes_what_ours_gives_it() -> None:
    assert [*inspect.signature(Multiprocess).parameters][:2] == ["config", "sockets"]


async def test_a_connection_of_redis_py_shows_its_reader_and_its_transport(redis_process: RedisProcess) -> None:
    connection = Connection(port=redis_process.port, protocol=2)
    await connection.connect()  # type: ignore[no-untyped-call]
    try:
        assert reader_of(connection) is not None
        assert connection._writer is not None
        assert lacking(connection._writer.transport, "set_protocol get_protocol") == []
    finally:
        await connection.disconnect()
