"""How long a replica takes from its command to its first answer, and what the imports cost.

    python -m tests.bench.start_up [--quick] [--starts 10]

With the embedded store and with Redis; on one core, one start after the other.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from tests.bench import sections
from tests.bench.bed import redis_server
from tests.bench.servers import ROOT, SERVER_CORE, pinned
from tests.support.redis_server import free_port

LIMIT_S = 20.0
LOOK_EVERY_S = 0.001
SHOWN = 10

HOW_TO_READ = (
    "From starting the process to the last byte of the first 200 of `/health/live`, over a warm file cache, on one core; "
    "and to the first 200 of `/health/ready`, when a webhook can be stored."
)

IMPORT = re.compile(r"^import time:\s+(\d+) \|\s+(\d+) \| ( *)(\S+)$")


def main() -> None:
    options = sections.options(__doc__)
    options.add_argument("--starts", type=int, default=10)
    chosen = options.parse_args()
    starts = 2 if chosen.quick else chosen.starts
    with tempfile.TemporaryDirectory(prefix="bench-") as name, redis_server(Path(name)) as redis:
        urls = {"memory://": "memory://", "redis://": f"redis://127.0.0.1:{redis.port}/0"}
        rows = [row_of(label, url, starts) for label, url in urls.items()]
        imports = imports_of(urls["redis://"])
    columns = ("store", "live, median ms", "least", "most", "ready, median ms")
    parts = [
        sections.head("Start-up", f"{HOW_TO_READ} {starts} starts each."),
        sections.table(columns, rows),
        f"{len(imports)} modules are imported before the first answer with Redis, {sum(imports.values()) / 1000:.0f} ms while "
        f"they are timed (which takes time itself); by package, and the {SHOWN} modules that take longest themselves:",
        sections.table(("package", "ms", "modules"), packages_of(imports)),
        sections.table(("module", "ms itself"), [[f"`{name}`", f"{us / 1000:.1f}"] for name, us in longest(imports)]),
    ]
    sections.publish("\n\n".join(parts), is_quick=chosen.quick)


def row_of(label: str, url: str, starts: int) -> list[str]:
    start(url)
    times = [start(url) for _ in range(starts)]
    live, ready = [each[0] for each in times], [each[1] for each in times]
    return [f"`{label}`", *(f"{ms:.0f}" for ms in (median(live), min(live), max(live), median(ready)))]


def start(url: str, *options: str, log: Path | None = None) -> tuple[float, float]:
    """Milliseconds to the first 200 of live and of ready; the replica is stopped again.

    Raises:
        TimeoutError: it did not come to that.
    """
    port = free_port()
    settings = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    settings |= {"REDIS_URL": url, "PORT": str(port), "DRAIN_S": "0", "LOG_LEVEL": "error"}
    command = pinned(SERVER_CORE, sys.executable, *options, "-m", "service")
    began = time.perf_counter()
    with (log or Path(os.devnull)).open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=settings, stdout=output, stderr=output)
    try:
        live = until_answered(port, "/health/live", began)
        ready = until_answered(port, "/health/ready", began)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(15)
    return live, ready


def until_answered(port: int, path: str, began: float) -> float:
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode()
    while time.perf_counter() - began < LIMIT_S:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                connection.sendall(request)
                answer = b"".join(iter(lambda: connection.recv(4096), b""))
        except OSError:
            answer = b""
        if answer.startswith(b"HTTP/1.1 200"):
            return 1000 * (time.perf_counter() - began)
        time.sleep(LOOK_EVERY_S)
    raise TimeoutError(f"no 200 of {path} within {LIMIT_S} s")


def imports_of(url: str) -> dict[str, int]:
    """Module to its own microseconds, without those of what it imports."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        log = Path(folder) / "imports"
        start(url, "-X", "importtime", log=log)
        found = map(IMPORT.match, log.read_text().splitlines())
    return {match[4]: int(match[1]) for match in found if match}


def longest(imports: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(imports.items(), key=lambda each: -each[1])[:SHOWN]


def packages_of(imports: dict[str, int]) -> list[list[str]]:
    totals: dict[str, list[int]] = {}
    for name, us in imports.items():
        package = name.split(".")[0]
        owner = "the standard library" if package in sys.stdlib_module_names else package
        totals.setdefault(owner, []).append(us)
    ordered = sorted(totals.items(), key=lambda each: -sum(each[1]))[:SHOWN]
    return [[name, f"{sum(times) / 1000:.1f}", str(len(times))] for name, times in ordered]


if __name__ == "__main__":
    main()
