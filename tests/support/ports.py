"""Ports for servers that are started by a test, each for one process of one test run on this machine."""

from __future__ import annotations

import contextlib
import random
import socket
from typing import Final

from tests.support.reservations import reserve

HIGH: Final = (61_000, 65_500)
"""Above where Linux takes the ports of outgoing connections: one of those may be in use before a server has it."""

CLUSTER: Final = (12_000, 22_000)
"""A Cluster node also listens 10,000 ports higher. Both are below where Linux takes the ports of outgoing connections."""

CLUSTER_BUS: Final = 10_000

_random = random.SystemRandom()
"""Not the shared generator, which Hypothesis seeds: two runs would then try the same ports in the same order."""

_reserved: list[socket.socket] = []
"""Open until this process ends, so that a server may be stopped and started again on its port."""


def free_port() -> int:
    """A port where nobody listens and that no other test run is given."""
    while True:
        port = _random.randint(*HIGH)
        if _is_ours(port) and _is_free(port):
            return port


def free_cluster_port() -> int:
    """A port for a Cluster node, with the one for its bus."""
    while True:
        port = _random.randint(*CLUSTER)
        if _is_ours(port) and _is_free(port) and _is_free(port + CLUSTER_BUS):
            return port


def _is_ours(port: int) -> bool:
    """Reserve the port among all test runs of this machine.

    Between the look and the server's own bind another run could take the port.
    """
    reservation = reserve(f"port-{port}")
    if reservation is not None:
        _reserved.append(reservation)
    return reservation is not None


def _is_free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False
