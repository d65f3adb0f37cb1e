"""Serves the application with uvicorn, in one process or several."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import secrets
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from types import FrameType
from typing import Any, Final

import uvicorn
from uvicorn.supervisors.multiprocess import Multiprocess

from service.assembly import REPLICA_ID_VARIABLE
from service.config import Settings
from service.server.connections import backlog_of, descriptor_limit
from service.server.protocol import BoundedProtocol

KEEP_ALIVE_S: Final = 75
"""Longer than common load balancers keep idle connections (60 s), so that they close them, not we under a request."""

GRACEFUL_S: Final = 5
"""For requests in flight after ``DRAIN_S``; together below the 10 s after which orchestrators kill."""

YOUNG_OBJECTS: Final = 50_000

PR_SET_PDEATHSIG: Final = 1
M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3

KEPT_BYTES: Final = 32 * 1024 * 1024
"""Of freed memory, per process."""

LARGEST_KEPT_BYTES: Final = 4 * 1024 * 1024
"""Bodies beyond are rare."""


class Supervisor(Multiprocess):
    """uvicorn's supervisor, which looks at signals twice a second: ours passes SIGTERM on at once."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        signal.signal(signal.SIGTERM, self._forward)

    def _forward(self, number: int, _: FrameType | None) -> None:
        for process in self.processes:
            if process.pid is not None and process.exitcode is None:
                os.kill(process.pid, number)
        self.signal_queue.append(number)


def serve(settings: Settings) -> int:
    """Run until told to stop; returns the exit status."""
    raise_file_limit()
    os.environ.setdefault(REPLICA_ID_VARIABLE, f"{socket.gethostname()}-{secrets.token_hex(3)}")
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
        "proxy_headers": False,  # api/client_address.py knows, and is asked only when it matters
        "timeout_keep_alive": KEEP_ALIVE_S,
        "timeout_graceful_shutdown": GRACEFUL_S,
        "backlog": backlog_of(descriptor_limit()),
    }
    if settings.workers == 1:
        # uvicorn raises the signal that ended it once more when it is done: a stop that was asked for is a success.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        server = uvicorn.Server(uvicorn.Config("service.server.serve:app_of_environment", **options))
        server.run()
        return 0 if server.started else 1
    with tempfile.TemporaryDirectory(prefix="vapi-cache-metrics-") as directory:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        config = uvicorn.Config("service.server.serve:app_of_environment", **options)
        Supervisor(config, [config.bind_socket()]).run()
    return 0


def app_of_environment() -> Any:
    """What each process serves; settings come from the environment, once more in every worker."""
    from service.app import create_app
    from service.load_config import load_settings
    from service.log import configure_logs

    settings = load_settings(os.environ)
    configure_logs(settings)
    if settings.workers > 1:
        end_with_parent()
    app = create_app(settings)
    collect_less_often()
    keep_freed_memory()
    return app


def collect_less_often() -> None:
    """Leave what lives as long as the process to itself, and look for cycles among the rest seldom.

    Requests leave none behind; by default the collector would still walk every object young enough many times a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 50)


def keep_freed_memory() -> None:
    """Have the C library keep freed memory: by default it returns every 128 kB, and getting a page back from the kernel
    costs as much as decoding one.

    https://man7.org/linux/man-pages/man3/mallopt.3.html; glibc only, elsewhere nothing happens.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT_BYTES)


def end_with_parent() -> None:
    """Have the kernel send us SIGTERM when the supervisor dies: orphans would hold the port against its successor.

    https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html; Linux only, elsewhere nothing happens.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def raise_file_limit() -> None:
    """A parked poll is an open file: take as many as we are allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else 1_048_576
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
