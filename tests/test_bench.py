"""The benchmarks' own tools: what they send, count and time must be right before a figure of theirs is believed."""

from __future__ import annotations

import json
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bench import sections
from tests.bench.bed import ADMIN, bed
from tests.bench.filling import TTL_S, Filling, call_id, phone_of
from tests.bench.generator import Generator, Requests
from tests.bench.load import exchange
from tests.bench.peers import TOKEN
from tests.bench.servers import ROOT
from tests.bench.soak import slope_a_minute
from tests.bench.workloads import REPORT, Workload, all_workloads
from tests.support.eventually import eventually_sync

STALL_S = 0.4


class Answers(socketserver.StreamRequestHandler):
    """200 to everything; whoever asks first keeps everybody waiting."""

    lock = threading.Lock()
    has_stalled = False

    def handle(self) -> None:
        while self.rfile.readline():
            while self.rfile.readline().strip():
                pass
            with self.lock:
                if not type(self).has_stalled:
                    type(self).has_stalled = True
                    time.sleep(STALL_S)
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


@contextmanager
def stalling_server() -> Iterator[int]:
    Answers.has_stalled = False
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answers) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def report_workload() -> Workload:
    return next(workload for workload in all_workloads() if workload.name == REPORT)


def test_a_stall_is_charged_with_every_request_that_was_due_meanwhile() -> None:
    with stalling_server() as port:
        generator = Generator(port, connections=4)
        outcome = generator.run(lambda _: b"GET / HTTP/1.1\r\n\r\n", rate=100, seconds=1.0)
        generator.close()
    assert (outcome.answered, outcome.errors) == (100, 0)
    assert outcome.worst >= 1000 * STALL_S
    # Forty of the hundred were due during the stall, though only four could be sent then.
    assert outcome.p99 >= 1000 * STALL_S * 0.9


def test_no_server_outlives_a_benchmark_that_is_killed(tmp_path: Path) -> None:
    start_and_wait = (
        "import pathlib, sys; from tests.bench.servers import Server;"
        "print(Server(['sleep', '600'], {}, pathlib.Path(sys.argv[1])).pid, flush=True); input()"
    )
    command = [sys.executable, "-c", start_and_wait, str(tmp_path / "log")]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as benchmark:
        assert benchmark.stdout is not None
        server = Path("/proc", benchmark.stdout.readline().decode().strip())
        eventually_sync(lambda: b"sleep" in (server / "cmdline").read_bytes().split(b"\0")[:1])
        benchmark.kill()
    eventually_sync(lambda: not server.exists())


def test_every_generated_request_is_whole_and_about_its_own_call() -> None:
    workload = report_workload()
    requests = Requests(workload.template, ring=12_000, run=3)
    bodies = []
    for number in (0, 1, 11_999, 12_000):
        head, _, body = requests.fill(number).partition(b"\r\n\r\n")
        assert b"Content-Length: %d\r\n" % len(body) in head + b"\r\n"
        bodies.append(json.loads(body)["message"])
    calls = [message["call"]["id"] for message in bodies]
    assert calls == [workload.id_of(number) for number in (0, 1, 11_999, 0)]
    assert bodies[0]["analysis"]["summary"] != bodies[3]["analysis"]["summary"]


def test_a_section_replaces_only_its_own_earlier_figures(tmp_path: Path) -> None:
    path = tmp_path / "results.md"
    for text in ("# One\n\nfirst\n\n## Part\n", "# Two\n\nsecond", "# One\n\nthird"):
        sections.put(path, text)
    assert path.read_text() == "# One\n\nthird\n\n# Two\n\nsecond\n"


def test_the_slope_is_that_of_the_line() -> None:
    assert slope_a_minute([0.0, 1.0, 2.0, 3.0], [10.0, 12.0, 14.0, 16.0]) == pytest.approx(120.0)
    assert slope_a_minute([0.0, 1.0, 2.0], [5.0, 5.0, 5.0]) == 0.0


def test_copied_records_are_records_like_any_other() -> None:
    with bed(RESULT_TTL_S=str(TTL_S)) as up:
        records = Filling(up, sources=5)
        records.grow_to(60)

        def get(path: str, token: str) -> dict[str, object]:
            request = f"GET /api/v1/vapi/{path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n"
            answer = exchange(up.service.port, request.encode())
            assert answer.startswith(b"HTTP/1.1 200"), answer[:300]
            body: dict[str, object] = json.loads(answer.partition(b"\r\n\r\n")[2])
            return body

        number = 47
        copy, source = (get(f"calls/{call_id(each).decode()}", TOKEN)["data"] for each in (number, 0))
        assert isinstance(copy, dict)
        assert isinstance(source, dict)
        assert (copy["call_id"], copy["customer_phone"]) == (call_id(number).decode(), phone_of(number))
        assert {name: copy[name] for name in ("messages", "status", "cost")} == {
            name: source[name] for name in ("messages", "status", "cost")
        }
        assert get(f"calls/by-phone/{phone_of(number)}", TOKEN)["count"] == 1
        stats = get("cache/stats", ADMIN)["stats"]
        assert isinstance(stats, dict)
        assert (stats["size"], records.copied) == (60, 55)
