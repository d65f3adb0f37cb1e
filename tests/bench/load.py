"""One run of wrk against one contender, and what it cost; checks that the answers are the right ones."""

from __future__ import annotations

import socket
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.bench.peers import Peer
from tests.bench.servers import LOAD_CORE, Server, cpu_s_of_children, cpu_s_of_machine, pinned
from tests.bench.workloads import Workload

SCRIPT = Path(__file__).parent / "wrk/load.lua"
CONNECTIONS = 64
OVERLAP = 2 * CONNECTIONS
"""Calls that the next run begins with again: some requests were on their way when the last one ended."""

QUIET = 0.1
"""Cores that others may use; above, a run is repeated, up to twice, and the quietest counts."""

SIZE_TOLERANCE = 0.15
"""How far the mean answer may be from the one that was checked, in size; another answer would be further off."""


class WrongAnswerError(Exception):
    """A contender answered something else than asked for: there is nothing to time."""


@dataclass(frozen=True)
class Sample:
    """One run. Processor times are microseconds per request."""

    per_second: float
    cpu_us: float
    redis_us: float
    busy: float
    """Share of the run's time that the server had its core; well below 1, something else was the limit."""
    errors: int
    disturbance: float = 0.0
    """Processor time that went to anything else on this machine meanwhile, in cores."""


@dataclass
class Running:
    """A contender that is up, and how far it has come in each workload."""

    peer: Peer
    server: Server
    sent: dict[str, int] = field(default_factory=dict)
    answer_bytes: dict[str, int] = field(default_factory=dict)
    runs: int = 0

    def etags_path(self) -> Path:
        return self.server.log.with_suffix(".etags")


def run_quietly(running: Running, redis: Server, workload: Workload, template: Path, seconds: int) -> Sample:
    """The first undisturbed run of three, or the least disturbed; errors in any of them count."""
    samples: list[Sample] = []
    while len(samples) < 3 and not any(sample.disturbance <= QUIET for sample in samples):
        samples.append(run_wrk(running, redis, workload, template, seconds))
    errors = sum(sample.errors for sample in samples)
    return replace(min(samples, key=lambda sample: sample.disturbance), errors=errors)


def run_wrk(running: Running, redis: Server, workload: Workload, template: Path, seconds: int) -> Sample:
    start = max(0, running.sent.get(workload.name, 0) - OVERLAP)
    url = f"http://127.0.0.1:{running.server.port}/"
    options = ["-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "10s", "-s", str(SCRIPT), url]
    running.runs += 1
    arguments = [str(template), str(start), str(workload.calls), str(running.runs)]
    if workload.needs_etags:
        arguments.append(str(running.etags_path()))
    cpu_s, redis_s, wrk_s, machine_s = running.server.cpu_s(), redis.cpu_s(), cpu_s_of_children(), cpu_s_of_machine()
    command = pinned(LOAD_CORE, "wrk", *options, "--", *arguments)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    cpu_s, redis_s = running.server.cpu_s() - cpu_s, redis.cpu_s() - redis_s
    others_s = cpu_s_of_machine() - machine_s - cpu_s - redis_s - (cpu_s_of_children() - wrk_s)
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    requests, duration_us, size, errors = map(int, line.split()[1:])
    running.sent[workload.name] = start + requests
    if not is_close(size / max(1, requests), running.answer_bytes[workload.name]):
        errors = max(errors, 1)
    share, run_s = 1e6 / max(1, requests), duration_us / 1e6
    return Sample(requests / run_s, cpu_s * share, redis_s * share, cpu_s / run_s, errors, max(0.0, others_s / run_s))


def is_close(size: float, expected: int) -> bool:
    return abs(size - expected) <= SIZE_TOLERANCE * expected


def prime(running: Running, redis: Server, workload: Workload, template: Path) -> None:
    """Warm up; where polls follow, the whole ring is sent at least once, so that each finds its call.

    Raises:
        WrongAnswerError: an answer was not a success.
    """
    wanted = workload.calls + 2 * OVERLAP if workload.precedes_polls else 0
    while True:
        sample = run_wrk(running, redis, workload, template, 1)
        if sample.errors:
            raise WrongAnswerError(
                f"{workload.name}: {sample.errors} errors while warming up; see {running.server.log}"
            )
        if running.sent[workload.name] >= wanted:
            return


def check(running: Running, workload: Workload, etag: str = "") -> None:
    """One request by hand: the status, the call's id in the body, and how large such an answer is.

    Raises:
        WrongAnswerError: it was another answer.
    """
    answer = exchange(running.server.port, workload.request(7, etag))
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split(b" ")[1])
    if workload.needs_etags:
        is_right = status == 304 and not body
    else:
        is_right = status == 200 and (not running.peer.stores or workload.id_of(7).encode() in body)
    if not is_right:
        raise WrongAnswerError(f"{workload.name}: {status} {body[:300]!r}")
    running.answer_bytes[workload.name] = len(answer)


def collect_etags(running: Running, workload: Workload, plain_poll: Workload) -> list[str]:
    """The ETag of each call of the ring, also written for wrk."""
    with socket.create_connection(("127.0.0.1", running.server.port), timeout=10) as connection:
        heads = (exchange_over(connection, plain_poll.request(number)) for number in range(workload.calls))
        etags = [_header(answer, b"etag").decode() for answer in heads]
    running.etags_path().write_text("\n".join(etags) + "\n")
    return etags


def exchange(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        return exchange_over(connection, request)


def exchange_over(connection: socket.socket, request: bytes) -> bytes:
    """One request and its whole answer over a connection that is kept."""
    connection.sendall(request)
    answer = b""
    while not _is_whole(answer):
        received = connection.recv(1 << 18)
        if not received:
            break
        answer += received
    return answer


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    if b"chunked" in _header(answer, b"transfer-encoding"):
        return body.endswith(b"0\r\n\r\n")
    return head.startswith(b"HTTP/1.1 304") or len(body) >= int(_header(answer, b"content-length") or 0)


def _header(answer: bytes, name: bytes) -> bytes:
    for line in answer.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip()
    return b""
