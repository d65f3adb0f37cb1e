"""What most benchmarks stand on: one replica of the service and one redis-server, each on its core."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from redis import Redis

from tests.bench.load import Running, Sample, prime, run_quietly
from tests.bench.load import check as check_answer
from tests.bench.peers import all_peers
from tests.bench.servers import LOAD_CORE, SERVER_CORE, Server
from tests.bench.workloads import Workload

ADMIN = "bench-admin-token-0123456789"


@dataclass
class Bed:
    running: Running
    redis: Server
    folder: Path

    @property
    def service(self) -> Server:
        return self.running.server

    def connect(self) -> Redis:
        return Redis(port=self.redis.port)

    def template_of(self, workload: Workload) -> Path:
        """The request as a file, which wrk and generator.py read."""
        path = self.folder / "".join(letter if letter.isalnum() else "-" for letter in workload.name)
        path.write_bytes(workload.template)
        return path

    def saturate(self, workload: Workload, seconds: int) -> Sample:
        """What wrk gets through with 64 connections, warmed up, in the least disturbed of up to three runs.

        Raises:
            WrongAnswerError: it is not what was asked for that is answered.
        """
        template = self.template_of(workload)
        check_answer(self.running, workload)
        prime(self.running, self.redis, workload, template)
        check_answer(self.running, workload)
        return run_quietly(self.running, self.redis, workload, template, seconds)


@contextmanager
def bed(*, core: int | str = SERVER_CORE, redis_options: tuple[str, ...] = (), **settings: str) -> Iterator[Bed]:
    """Both up and empty; stopped in the end. Settings are environment variables."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        with redis_server(folder, *redis_options) as redis, service(folder, redis, core, settings) as running:
            yield Bed(running, redis, folder)


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[Server]:
    fixed = ["--port", "{port}", "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    redis = Server(["redis-server", *fixed, *options], {}, folder / "redis.log", LOAD_CORE)
    try:
        redis.wait_until_it_listens()
        yield redis
    finally:
        redis.stop()


@contextmanager
def service(
    folder: Path, redis: Server, core: int | str = SERVER_CORE, settings: dict[str, str] | None = None
) -> Iterator[Running]:
    """One replica, with the settings that it has beside its peers and an admin's token."""
    ours = all_peers(f"redis://127.0.0.1:{redis.port}/0")[0]
    peer = replace(ours, settings=ours.settings | {"API_ADMIN_TOKENS": ADMIN, "DRAIN_S": "0"} | (settings or {}))
    server = Server(peer.command, peer.settings, folder / "service.log", core)
    try:
        server.wait_until_it_listens()
        yield Running(peer, server)
    finally:
        server.stop()
