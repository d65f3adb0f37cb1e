"""A service whose standard output and error the test provides."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2

from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.traffic import open_client
from tests.support.warm_service import WarmProcess


class Outputs:
    """Where the service's standard output and error go, and what has to stay open meanwhile."""

    def __init__(self, stdout: int, stderr: int, kept: list[int]) -> None:
        self.stdout, self.stderr, self.kept = stdout, stderr, kept

    def close(self) -> None:
        for descriptor in {self.stdout, self.stderr, *self.kept}:
            os.close(descriptor)


def small_pipe() -> tuple[int, int]:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    return reading, writing


def full_disk() -> Outputs:
    full = os.open("/dev/full", os.O_WRONLY)
    return Outputs(full, full, [])


@contextmanager
def service(outputs: Outputs, **settings: object) -> Iterator[tuple[str, WarmProcess]]:
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
    environment |= {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_PROCESS")}
    environment |= {"PORT": str(port), "DRAIN_S": "0", **{k.upper(): str(v) for k, v in settings.items()}}
    process = WarmProcess([], environment, stdout=outputs.stdout, stderr=outputs.stderr)
    try:
        yield f"http://127.0.0.1:{port}", process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        outputs.close()


async def serves(url: str) -> None:
    async def is_up() -> bool:
        try:
            async with open_client() as client:
                return (await client.get(url + "/health/live")).status_code == 200
        except httpx2.HTTPError:
            return False

    await eventually(is_up)
