"""Makes the connections to Redis that ``REDIS_URL`` asks for, whatever its topology."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection, Connection, ConnectionPool, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from service.config import Settings
from service.errors import SettingsError
from service.redis_client.cluster import Address, ClusterPipeline
from service.redis_client.pipeline import Pipeline
from service.redis_client.sentinels import ASK_SENTINEL_S, Sentinels

CONNECTIONS: Final = 4
"""Connections per server. Several small batches keep both sides busy; with two large ones, both sides waited up to a
quarter of the time under load. More connections gained nothing."""


@dataclass(frozen=True, slots=True)
class RedisTopology:
    """How commands and the subscription to changes reach Redis."""

    commands: Pipeline | ClusterPipeline
    connect_subscriber: Callable[[], AbstractConnection]
    """Makes a connection, not open yet, to any server that receives published messages."""
    sentinels: Sentinels | None = None


def open_redis(
    settings: Settings, probe_keys: Sequence[bytes], *, on_roundtrip: Callable[[float], None] = lambda _: None
) -> RedisTopology:
    """The topology of ``REDIS_URL``. Nothing is connected before the pipeline starts.

    ``probe_keys`` has one key per bucket, in the bucket's hash slot, to find the bucket's master in a Cluster.
    ``on_roundtrip`` is called with the seconds that Redis took for each batch of commands.

    Raises:
        SettingsError: the URL cannot be understood.
    """
    scheme = settings.redis_url.split("://")[0]
    try:
        if scheme.endswith("+cluster"):
            return _cluster(settings, probe_keys, on_roundtrip)
        if scheme.endswith("+sentinel"):
            return _behind_sentinels(settings, on_roundtrip)
        return _one_server(settings, _pool_of(scheme, settings).make_connection, on_roundtrip)
    except (ValueError, TypeError):
        # Leave the reason out: it may quote the password.
        raise SettingsError(
            "REDIS_URL: cannot be understood; special characters in its user and password must be percent-encoded"
        ) from None


def _one_server(
    settings: Settings,
    connect: Callable[[], AbstractConnection],
    on_roundtrip: Callable[[float], None],
    sentinels: Sentinels | None = None,
) -> RedisTopology:
    pipeline = Pipeline(
        connect,
        connections=CONNECTIONS,
        timeout_s=settings.store_timeout_s,
        wait_replicas=settings.store_wait_replicas,
        on_too_few_replicas=sentinels.inquire_soon if sentinels else lambda: None,
        on_roundtrip=on_roundtrip,
    )
    if sentinels is not None:
        sentinels.on_new_master.append(pipeline.leave_server)
    return RedisTopology(pipeline, connect, sentinels)


def _pool_of(scheme: str, settings: Settings) -> ConnectionPool:
    options = _connection_options(settings)
    if scheme == "memory":
        from fakeredis import FakeServer  # noqa: PLC0415 - costs a tenth of a second that production need not spend
        from fakeredis.aioredis import FakeRedis  # noqa: PLC0415

        return FakeRedis(server=FakeServer(), version=(7,), **options).connection_pool
    if scheme != "unix" and (database := urlsplit(settings.redis_url).path.strip("/")) and not database.isdigit():
        raise SettingsError("REDIS_URL: must end in the number of a database, or in nothing")
    return Redis.from_url(settings.redis_url, **options).connection_pool


def _behind_sentinels(settings: Settings, on_roundtrip: Callable[[float], None]) -> RedisTopology:
    """``redis+sentinel://[user:password@]host:port,host:port/<service>[/<db>][?options]``; the password is for the
    servers, not the Sentinels. With ``rediss+sentinel`` both use TLS, with the same options.
    """
    address = _SeveralHosts.parse(settings.redis_url)
    service, _, database = address.path.partition("/")
    if not service:
        raise SettingsError("REDIS_URL: must name the service: redis+sentinel://host:port,host:port/<service>")
    options = {"db": int(database or 0), **_connection_options(settings), **address.options, "ssl": address.has_tls}
    asking = {
        **_connection_options(settings),
        **{name: value for name, value in options.items() if name.startswith("ssl")},
        "socket_connect_timeout": ASK_SENTINEL_S,
        "socket_timeout": ASK_SENTINEL_S,
    }
    sentinels = Sentinels(address.nodes, service, asking)
    pool = sentinels.master_for(service, **options).connection_pool
    return _one_server(settings, pool.make_connection, on_roundtrip, sentinels)


def _cluster(settings: Settings, probe_keys: Sequence[bytes], on_roundtrip: Callable[[float], None]) -> RedisTopology:
    """``redis+cluster://[user:password@]host:port,host:port[?options]``"""
    address = _SeveralHosts.parse(settings.redis_url)
    options = {**_connection_options(settings), **address.options}
    connection_class = SSLConnection if address.has_tls else Connection

    template = connection_class(**options)  # raises for an unknown option

    def connect_to(node: Address) -> AbstractConnection:
        connection = connection_class(host=node[0], port=node[1], **options)
        if isinstance(connection, SSLConnection) and isinstance(template, SSLConnection):
            # Else each connection would read all certificates of the system, for 10 to 40 ms on the event loop.
            connection.ssl_context = template.ssl_context
        return connection

    commands = ClusterPipeline(
        connect_to,
        address.nodes,
        list(probe_keys),
        connections=CONNECTIONS,
        timeout_s=settings.store_timeout_s,
        wait_replicas=settings.store_wait_replicas,
        on_roundtrip=on_roundtrip,
    )
    return RedisTopology(commands, lambda: connect_to(commands.any_node()))


def _connection_options(settings: Settings) -> dict[str, Any]:
    return {
        "socket_connect_timeout": settings.store_timeout_s / 2,
        # The pipeline does read timeouts and retries: it knows how long a request has waited already.
        "socket_timeout": None,
        "retry": Retry(NoBackoff(), 0),
        "decode_responses": False,
        "protocol": 2,
    }


@dataclass(frozen=True, slots=True)
class _SeveralHosts:
    """The parts of a URL with several hosts. redis-py parses everything but the hosts and the path."""

    nodes: list[Address]
    has_tls: bool
    options: dict[str, Any]
    """User, password and the query's options, as arguments of a connection."""
    path: str

    @classmethod
    def parse(cls, url: str) -> _SeveralHosts:
        parts = urlsplit(url)
        user_info, _, hosts = parts.netloc.rpartition("@")
        nodes = [_node(host) for host in hosts.split(",") if host]
        if not nodes:
            raise SettingsError("REDIS_URL: must name at least one host:port")
        has_tls = parts.scheme.startswith("rediss")
        one = urlunsplit(("rediss" if has_tls else "redis", f"{user_info}@", "", parts.query, ""))
        options: dict[str, Any] = dict(parse_url(one))
        options.pop("connection_class", None)
        return cls(nodes, has_tls, options, parts.path.strip("/"))


def _node(text: str) -> Address:
    parts = urlsplit(f"//{text}")
    if parts.hostname is None:
        raise ValueError("hosts must be given as host:port")
    return parts.hostname, parts.port or 6379
