"""Real Sentinels out of redis-server processes on free ports, and how tests ask any Redis."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import redis

from tests.support.eventually import PATIENCE_S, eventually_sync
from tests.support.ports import free_port
from tests.support.redis_server import RedisProcess

SERVICE = "mymaster"

SYNC_AT_ONCE = ("--repl-diskless-sync-delay", "0")
"""A master waits five seconds for more replicas otherwise, before it sends the first one anything."""

DOWN_AFTER_MS = 2500
"""Only where a master is to be found dead. Sentinels connect to a new master only once a second: with less than that they
took each one for dead before they had spoken to it, and promoted one after the other, in the end also a server that had
not caught up.
"""

NOBODY_DIES_MS = 120_000
"""No test takes so long."""

DURABLE = ("--appendonly", "yes")
"""What the README asks of every Redis. Without it a killed master comes back empty and calls itself master for eight
seconds, until the Sentinels make it a replica: if they lost the new master meanwhile, they might promote that one.
"""


def wait_until(is_so: Callable[[], bool], what: str, within_s: float = PATIENCE_S) -> None:
    """Return when it is so. A Redis that does not answer counts as no."""

    def is_so_by_an_answer() -> bool:
        with contextlib.suppress(redis.RedisError):
            return is_so()
        return False

    try:
        eventually_sync(is_so_by_an_answer, within_s)
    except TimeoutError:
        raise TimeoutError(what) from None


WATCHER = ("watcher", "watching")
"""User and password by which Sentinels and replicas reach a server."""

CLIENT = ("client", "serving")
"""User and password by which the service does."""

PASSWORD = "administering"
"""Of the default user: whoever fails to authenticate goes on as that one."""


class SentinelSetup:
    """One master, its replicas, three Sentinels. Nobody is taken for dead until ``wait_for_promotion``."""

    def __init__(self, replicas: int = 1) -> None:
        self._replicas = replicas
        self.servers: list[RedisProcess] = []
        self.sentinels: list[RedisProcess] = []

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{':'.join(CLIENT)}@{hosts}/{SERVICE}"

    def start(self) -> Self:
        options = [*DURABLE, *SYNC_AT_ONCE, "--masteruser", WATCHER[0], "--masterauth", WATCHER[1]]
        for user, password in (WATCHER, CLIENT):
            options += ["--user", user, "on", f">{password}", "~*", "&*", "+@all"]
        master = RedisProcess(*options, password=PASSWORD).start()
        self.servers = [master]
        for _ in range(self._replicas):
            replica = RedisProcess("--replicaof", f"127.0.0.1 {master.port}", *options, password=PASSWORD)
            self.servers.append(replica.start())
        wait_until(lambda: self._synced_replicas_of(master) == self._replicas, "the replicas did not join")
        self.sentinels = [self._sentinel(master.port).start() for _ in range(3)]
        wait_until(lambda: all(map(self._is_ready, self.sentinels)), "the Sentinels did not find one another")
        return self

    def stop(self) -> None:
        for process in (*self.sentinels, *self.servers):
            process.stop()

    def master(self) -> RedisProcess:
        """Whom the Sentinels name now."""
        for sentinel in self.sentinels:
            with contextlib.suppress(redis.RedisError):
                address = ask(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
                return next(server for server in self.servers if server.port == int(address[1]))
        raise RuntimeError("no Sentinel answers")

    def masters(self) -> list[RedisProcess]:
        return [self.master()]

    def wait_for_promotion(self, masters_before: list[RedisProcess]) -> None:
        """Return when another server calls itself master; from now on a silent server is taken for dead."""
        self._take_for_dead_after(DOWN_AFTER_MS)
        others = [server for server in self.servers if server not in masters_before]
        wait_until(lambda: any(one.client.role()[0] == b"master" for one in others), "nobody was promoted")

    def allow_no_other_failover(self, masters_before: list[RedisProcess]) -> None:
        """Once the Sentinels name the next master, they take nobody else for dead.

        On a busy machine a healthy master may be silent for seconds, too. What it acknowledged and had not passed on
        is lost in the failover that follows, which only STORE_WAIT_REPLICAS would prevent.
        """
        wait_until(lambda: self.master() not in masters_before, "the Sentinels name no other master")
        self._take_for_dead_after(NOBODY_DIES_MS)

    def _take_for_dead_after(self, silence_ms: int) -> None:
        for sentinel in self.sentinels:
            ask(sentinel, "SENTINEL", "SET", SERVICE, "down-after-milliseconds", str(silence_ms))

    def wait_until_whole(self) -> None:
        """Until every server is up again, replicates from the one master, and the Sentinels know so."""
        wait_until(self._is_whole, "not every server came back")

    def cut_off(self, server: RedisProcess) -> None:
        """From the Sentinels and the other servers, as a partition of the network does; the service still reaches it."""
        ask(server, "ACL", "SETUSER", WATCHER[0], "off")
        ask(server, "CLIENT", "KILL", "USER", WATCHER[0])
        ask(server, "CLIENT", "KILL", "TYPE", "replica")

    def rejoin(self, server: RedisProcess) -> None:
        ask(server, "ACL", "SETUSER", WATCHER[0], "on")
        ask(server, "CLIENT", "KILL", "USER", "default")  # Sentinels whose authentication failed stay connected

    def _is_whole(self) -> bool:
        master = self.master()
        roles = [server.client.role() for server in self.servers if server is not master]
        follow = [role[0] == b"slave" and role[2] == master.port and role[3] == b"connected" for role in roles]
        return all(follow) and not any(map(self._misses_somebody, self.sentinels))

    @staticmethod
    def _misses_somebody(sentinel: RedisProcess) -> bool:
        states: list[Any] = [
            sentinel.client.sentinel_master(SERVICE),
            *sentinel.client.sentinel_slaves(SERVICE),
        ]
        return any("_down" in str(state["flags"]) for state in states)

    @staticmethod
    def _sentinel(master_port: int) -> RedisProcess:
        folder = Path(tempfile.mkdtemp(prefix="sentinel-test-"))
        port = free_port()
        (folder / "sentinel.conf").write_text(
            f"port {port}\ndir {folder}\nsentinel monitor {SERVICE} 127.0.0.1 {master_port} 2\n"
            f"sentinel down-after-milliseconds {SERVICE} {NOBODY_DIES_MS}\nsentinel failover-timeout {SERVICE} 3000\n"
            f"sentinel auth-user {SERVICE} {WATCHER[0]}\nsentinel auth-pass {SERVICE} {WATCHER[1]}\n"
        )
        return RedisProcess(
            port=port, folder=folder, command=["redis-server", str(folder / "sentinel.conf"), "--sentinel"]
        )

    @staticmethod
    def _synced_replicas_of(master: RedisProcess) -> int:
        state = master.client.info("replication")
        replicas = [state[f"slave{number}"] for number in range(state["connected_slaves"])]
        return sum(replica["state"] == "online" for replica in replicas)

    def _is_ready(self, sentinel: RedisProcess) -> bool:
        state = ask(sentinel, "SENTINEL", "MASTER", SERVICE)
        fields = dict(zip(state[::2], state[1::2], strict=True)) if isinstance(state, list) else state
        known = {_text(name): _text(value) for name, value in fields.items()}
        return known["num-other-sentinels"] == "2" and known["num-slaves"] == str(self._replicas)


def connections_of_the_service(server: RedisProcess) -> set[str]:
    """Their ids, at a server behind Sentinels."""
    return {one["id"] for one in server.client.client_list() if one["user"] == CLIENT[0]}


def ask(process: RedisProcess, *command: str) -> Any:
    return process.client.execute_command(*command)  # type: ignore[no-untyped-call]


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
