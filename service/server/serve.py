"""Serves the application with uvicorn, in one or several processes."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from types import FrameType
from typing import Any, Final

import uvicorn
from uvicorn.supervisors.multiprocess import Multiprocess

from service.assembly import METRICS_FOLDER_VARIABLE, replica_id
from service.config import Settings
from service.server.connections import backlog_of, descriptor_limit
from service.server.protocol import BoundedProtocol

KEEP_ALIVE_S: Final = 75
"""Common load balancers keep idle connections for 60 s. We wait longer, so that we never close one under a request."""

GRACEFUL_S: Final = 5
"""Time for requests in flight after ``DRAIN_S``. The sum must stay below the 10 s after which Docker kills
unless it is told otherwise; Kubernetes waits 30 s."""

YOUNG_OBJECTS: Final = 50_000
"""New objects between two collections of the youngest. Python's default is 700."""

PR_SET_PDEATHSIG: Final = 1


class Supervisor(Multiprocess):
    """uvicorn's supervisor, which checks for signals twice a second. This one forwards SIGTERM at once."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        signal.signal(signal.SIGTERM, self._forward)

    def _forward(self, number: int, _: FrameType | None) -> None:
        for process in self.processes:
            if process.pid is not None and process.exitcode is None:
                os.kill(process.pid, number)
        self.signal_queue.append(number)


def serve(settings: Settings) -> int:
    """Run until stopped; returns the exit status."""
    raise_file_limit()
    replica_id()  # made here, so that all workers have the same
    options: dict[str, Any] = {
        "factory": True,
        "host": settings.host,
        "port": settings.port,
        "workers": settings.workers,
        "http": BoundedProtocol,
        "ws": "none",
        "loop": "uvloop",
        "lifespan": "on",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,  # api/client_address.py does this, only when needed
        "timeout_keep_alive": KEEP_ALIVE_S,
        "timeout_graceful_shutdown": GRACEFUL_S,
        "backlog": backlog_of(descriptor_limit()),
    }
    if settings.workers == 1:
        # uvicorn raises the signal again after it has stopped. A requested stop exits with 0.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        server = uvicorn.Server(uvicorn.Config("service.server.serve:app_of_environment", **options))
        server.run()
        return 0 if server.started else 1
    with tempfile.TemporaryDirectory(prefix="vapi-cache-metrics-") as directory:
        os.environ[METRICS_FOLDER_VARIABLE] = directory
        config = uvicorn.Config("service.server.serve:app_of_environment", **options)
        Supervisor(config, [config.bind_socket()]).run()
    return 0


def app_of_environment() -> Any:
    """The application of one process. Every worker loads the settings from the environment."""
    from service.app import create_app
    from service.load_config import load_settings
    from service.log import configure_logs

    settings = load_settings(os.environ)
    configure_logs(settings)
    if settings.workers > 1:
        end_with_parent()
    app = create_app(settings, os.environ)
    collect_less_often()
    return app


def collect_less_often() -> None:
    """Exclude the objects of the start from garbage collection, and collect the rest seldom.

    This is for the pauses: a full collection of the 58,000 objects of the start took 61 ms (least of 7, on a busy
    machine), and p99 must stay within 10 ms. The CPU time saved is within the noise: medians of 1.4 and 4.9 % of a
    webhook's in 16 and 30 alternating pairs of runs.
    """
    gc.collect()
    gc.freeze()
    # The middle generation with every 20th collection of the youngest, the oldest with every 50th of the middle.
    gc.set_threshold(YOUNG_OBJECTS, 20, 50)


def end_with_parent() -> None:
    """Make the kernel send us SIGTERM when the supervisor dies. Orphans would keep the port from its successor.

    https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html; Linux only, elsewhere nothing happens.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def raise_file_limit() -> None:
    """Raise the limit of open files to the maximum allowed: each parked poll is an open file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else 1_048_576
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
