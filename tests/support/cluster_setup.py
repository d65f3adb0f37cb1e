"""A real Cluster out of redis-server processes on free ports."""

from __future__ import annotations

import contextlib
import subprocess
from typing import Self

import redis

from tests.support.eventually import PATIENCE_S
from tests.support.ports import free_cluster_port
from tests.support.redis_server import RedisProcess
from tests.support.redis_topologies import NOBODY_DIES_MS, SYNC_AT_ONCE, ask, wait_until

NODE_TIMEOUT_MS = 1500
"""Only where a master is to be found dead: a node that a busy machine does not let run for so long is taken for dead."""


class ClusterSetup:
    """Three masters with a replica each. Nobody is taken for dead until ``wait_for_promotion``.

    Args:
        promotes: a dead master's replica takes its place.
    """

    def __init__(self, *, promotes: bool = False) -> None:
        self._promotes = promotes
        self.nodes: list[RedisProcess] = []

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:3])

    def start(self) -> Self:
        options = [
            "--cluster-enabled", "yes", "--cluster-node-timeout", str(NOBODY_DIES_MS), "--cluster-config-file", "nodes.conf",
            "--cluster-replica-no-failover", "no" if self._promotes else "yes", *SYNC_AT_ONCE,
        ]  # fmt: skip
        for _ in range(6):
            self.nodes.append(RedisProcess(*options, port=free_cluster_port()).start())
        addresses = [f"127.0.0.1:{node.port}" for node in self.nodes]
        subprocess.run(
            ["redis-cli", "--cluster", "create", *addresses, "--cluster-replicas", "1", "--cluster-yes"],
            check=True, capture_output=True, timeout=PATIENCE_S,
        )  # fmt: skip
        self.wait_until_whole()
        return self

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def masters(self) -> list[RedisProcess]:
        return [node for node in self.nodes if self._is_master(node)]

    def wait_for_promotion(self, masters_before: list[RedisProcess]) -> None:
        """Return when a node that was a replica calls itself master; from now on a silent node is taken for dead."""
        self._take_for_dead_after(NODE_TIMEOUT_MS)
        replicas = [node for node in self.nodes if node not in masters_before]
        wait_until(lambda: any(map(self._is_master, replicas)), "nobody was promoted")

    def allow_no_other_failover(self, _: list[RedisProcess]) -> None:
        """After a promotion the living nodes take nobody else for dead; as of SentinelSetup."""
        self._take_for_dead_after(NOBODY_DIES_MS)

    def _take_for_dead_after(self, silence_ms: int) -> None:
        for node in self.nodes:
            if not node.is_paused:
                with contextlib.suppress(redis.ConnectionError):  # it was killed
                    ask(node, "CONFIG", "SET", "cluster-node-timeout", str(silence_ms))

    def wait_until_whole(self) -> None:
        """Until every node is up again, and every replica follows its master."""
        wait_until(
            lambda: len(self.masters()) == 3 and all(map(self._is_ready, self.nodes)), "the Cluster is not whole"
        )

    @staticmethod
    def _is_master(node: RedisProcess) -> bool:
        try:
            return not node.is_paused and bool(node.client.role()[0] == b"master")
        except redis.RedisError:
            return False

    @staticmethod
    def _is_ready(node: RedisProcess) -> bool:
        role = node.client.role()
        state = ask(node, "CLUSTER", "INFO")
        is_ok = "ok" in str(state.get("cluster_state") if isinstance(state, dict) else state)
        return is_ok and (role[0] == b"master" or role[3] == b"connected")
