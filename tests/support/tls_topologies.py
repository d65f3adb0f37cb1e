"""Redis servers, a Sentinel and a Cluster that speak TLS to clients and to one another; each has a second port without
TLS, by which tests administer it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.certificates import Authority
from tests.support.redis_server import RedisProcess, free_cluster_port, free_port
from tests.support.redis_topologies import NOBODY_DIES_MS, SERVICE, ask, wait_until

HERE = "IP:127.0.0.1"


@contextmanager
def sentinel_over_tls(authority: Authority, *, sentinel_host: str = HERE, server_host: str = HERE) -> Iterator[str]:
    """One master and one Sentinel with certificates for those hosts; gives ``host:port/service``."""
    with ExitStack() as stack:
        port = free_port()
        server = RedisProcess(*_tls_options(authority, server_host, port), "--tls-replication", "yes")
        stack.callback(server.stop)
        server.start()
        folder, plain_port, tls_port = Path(tempfile.mkdtemp(prefix="sentinel-test-")), free_port(), free_port()
        options = _tls_options(authority, sentinel_host, tls_port)
        lines = [f"{name.removeprefix('--')} {value}" for name, value in zip(options[::2], options[1::2], strict=True)]
        lines += [f"port {plain_port}", f"dir {folder}", "tls-replication yes"]
        lines += [f"sentinel monitor {SERVICE} 127.0.0.1 {port} 1"]
        lines += [f"sentinel down-after-milliseconds {SERVICE} {NOBODY_DIES_MS}\n"]
        (folder / "sentinel.conf").write_text("\n".join(lines))
        command = ["redis-server", str(folder / "sentinel.conf"), "--sentinel"]
        sentinel = RedisProcess(port=plain_port, folder=folder, command=command)
        stack.callback(sentinel.stop)
        sentinel.start()
        yield f"127.0.0.1:{tls_port}/{SERVICE}"


@contextmanager
def cluster_over_tls(authority: Authority, host: str = HERE) -> Iterator[str]:
    """Two masters with certificates for that host; gives the ``host:port`` of the first."""
    with ExitStack() as stack:
        ports = [free_cluster_port(), free_cluster_port()]
        nodes = []
        for port, slots in zip(ports, (("0", "8191"), ("8192", "16383")), strict=True):
            cluster = ["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--tls-cluster", "yes"]
            cluster += ["--cluster-node-timeout", str(NOBODY_DIES_MS)]
            nodes.append(RedisProcess(*_tls_options(authority, host, port), *cluster))
            stack.callback(nodes[-1].stop)
            nodes[-1].start()
            ask(nodes[-1], "CLUSTER", "ADDSLOTSRANGE", *slots)
        ask(nodes[0], "CLUSTER", "MEET", "127.0.0.1", str(ports[1]))
        wait_until(lambda: all("state:ok" in _state_of(node) for node in nodes), "the nodes did not find one another")
        yield f"127.0.0.1:{ports[0]}"


def _state_of(node: RedisProcess) -> str:
    state = ask(node, "CLUSTER", "INFO")
    return f"state:{state['cluster_state']}" if isinstance(state, dict) else str(state)


def _tls_options(authority: Authority, host: str, port: int) -> list[str]:
    """Name and value by turns."""
    certificate, key = authority.issue(host)
    return [
        "--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key),
        "--tls-ca-cert-file", str(authority.certificate), "--tls-auth-clients", "optional",
    ]  # fmt: skip
