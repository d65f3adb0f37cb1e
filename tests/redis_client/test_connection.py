"""What REDIS_URL may say, and that a connection's surprises end neither the pipeline nor a secret's secrecy."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from redis.asyncio.connection import Connection

from service.errors import SettingsError, StoreUnavailableError
from service.load_config import load_settings
from service.redis_client.pipeline import Pipeline
from service.redis_client.topology import open_redis
from service.store.keys import Keys
from tests.support.eventually import PATIENCE_S
from tests.support.for_each import for_each
from tests.support.opened_store import OpenedStore
from tests.support.redis_server import RedisProcess


def _refusal(url: str) -> str:
    with pytest.raises(SettingsError) as refused:
        open_redis(load_settings({"REDIS_URL": url}), Keys("vapi").probes)
    return str(refused.value)


@for_each(
    "url",
    [
        "redis://127.0.0.1:port",
        "redis://127.0.0.1:65536",
        "redis://127.0.0.1:6379/0?unheard_of=1",
        "redis+sentinel://127.0.0.1:26379",
        "redis+sentinel:///main",
        "redis+sentinel://:26379/main",
        "redis+sentinel://127.0.0.1:26379/main/first",
        "redis+cluster://",
        "redis+cluster://127.0.0.1:port",
        "redis+cluster://127.0.0.1:7000?unheard_of=1",
        "redis+sentinel://127.0.0.1:26379/main?unheard_of=1",
        "redis+cluster://127.0.0.1:7000?ssl_ca_certs=/ca.pem",
        "rediss+cluster://127.0.0.1:7000?health_check_interval=often",
    ],
)
def test_a_url_that_cannot_be_understood_is_refused_in_one_line(url: str) -> None:
    said = _refusal(url)

    assert said.startswith("REDIS_URL: ")
    assert "\n" not in said


@pytest.mark.parametrize("separator", ["/", "#", "?"])
@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
def test_a_password_that_was_not_escaped_is_not_quoted(scheme: str, separator: str) -> None:
    said = _refusal(f"{scheme}://user:hunter7{separator}x@127.0.0.1:6379/0")

    assert "hunter7" not in said


@pytest.mark.parametrize(
    "url",
    [
        "memory://",
        "redis://user:pass@127.0.0.1:6379/1",
        "rediss://127.0.0.1",
        "unix:///run/redis.sock",
        "redis+sentinel://user:p%40ss@a:26379,b/main/2",
        "redis+cluster://:pass@a:7000,b:7001",
        "redis+cluster://user:p%2Fss@a:7000?socket_keepalive=yes",
        "rediss+sentinel://user:p%40ss@a:26379,b/main/2?ssl_ca_certs=/ca.pem&ssl_check_hostname=no",
        "rediss+cluster://:pass@a:7000,b:7001?ssl_ca_certs=/ca.pem&ssl_certfile=/c.pem&ssl_keyfile=/k.pem",
    ],
)
def test_every_documented_form_is_understood_and_nothing_is_connected(url: str) -> None:
    topology = open_redis(load_settings({"REDIS_URL": url}), Keys("vapi").probes)

    assert not topology.connect_subscriber().is_connected


async def test_a_password_is_used(own_redis: RedisProcess) -> None:
    opened = OpenedStore(own_redis.url, {})
    await opened.redis.config_set("requirepass", "hunter7")
    right = OpenedStore(own_redis.url.replace("//", "//:hunter7@"), {})
    wrong = OpenedStore(own_redis.url.replace("//", "//:other@"), {"STORE_TIMEOUT_S": "0.2"})
    try:
        assert await right.pipeline.execute(b"PING") == b"PONG"
        with pytest.raises(StoreUnavailableError):
            await wrong.pipeline.execute(b"PING")
    finally:
        for one in (opened, right, wrong):
            await one.close()


class _StumblingConnection(Connection):
    """Fails once in a way that is no Redis error, no OSError and no timeout: a bug, or a library's surprise."""

    has_stumbled = False

    async def connect(self, *args: Any, **options: Any) -> None:
        if not self.has_stumbled:
            self.has_stumbled = True
            raise LookupError("nobody foresaw this")
        await super().connect(*args, **options)  # type: ignore[no-untyped-call]


async def test_an_error_that_nobody_foresaw_fails_its_requests_and_no_later_ones(redis_process: RedisProcess) -> None:
    pipeline = Pipeline(
        lambda: _StumblingConnection(host="127.0.0.1", port=redis_process.port, protocol=2),
        connections=1,
        timeout_s=2.0,
    )
    pipeline.start()
    try:
        async with asyncio.timeout(PATIENCE_S):
            with suppress(StoreUnavailableError):
                await pipeline.execute(b"PING")
            assert await pipeline.execute(b"PING") == b"PONG"
    finally:
        with suppress(LookupError):
            await pipeline.close()


async def test_after_the_close_a_request_fails_instead_of_hanging(opened: OpenedStore) -> None:
    pipeline = opened.start_pipeline(connections=1)
    await pipeline.close()

    with pytest.raises(StoreUnavailableError):
        await asyncio.wait_for(pipeline.execute(b"PING"), PATIENCE_S)
