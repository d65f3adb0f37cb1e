"""Runs the generator in a process of its own, and says what that run took from the machine."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.bench.generator import PATIENCE_S, Outcome
from tests.bench.load import QUIET
from tests.bench.servers import LOAD_CORE, ROOT, Server, cpu_s_of_children, cpu_s_of_machine, pinned


@dataclass(frozen=True)
class Cost:
    """What a run took from the machine, in cores."""

    server: float
    others: float
    """Neither the server nor Redis nor the generator."""


def generate(
    port: int, template: Path, *, rate: float, seconds: float, ring: int, start: int = 0, run: int = 1
) -> Outcome:
    """In a process of its own, on the core that is not the server's."""
    command = [sys.executable, "-m", "tests.bench.generator", str(port), str(template)]
    for name, value in (("rate", rate), ("seconds", seconds), ("ring", ring), ("start", start), ("run", run)):
        command += [f"--{name}", str(value)]
    limit_s = seconds + PATIENCE_S + 20
    done = subprocess.run(
        pinned(LOAD_CORE, *command), cwd=ROOT, capture_output=True, text=True, check=True, timeout=limit_s
    )
    return Outcome(**json.loads(done.stdout))


def measure_quietly(
    server: Server, redis: Server, template: Path, *, rate: float, seconds: float, ring: int, run: int
) -> tuple[Outcome, Cost]:
    """The first undisturbed run of three, or the least disturbed; ``run`` and the two numbers after it are its own."""
    tries: list[tuple[Outcome, Cost]] = []
    while len(tries) < 3 and not any(cost.others <= QUIET for _, cost in tries):
        server_s, redis_s, own_s, machine_s = server.cpu_s(), redis.cpu_s(), cpu_s_of_children(), cpu_s_of_machine()
        outcome = generate(server.port, template, rate=rate, seconds=seconds, ring=ring, run=run + len(tries))
        server_s, redis_s = server.cpu_s() - server_s, redis.cpu_s() - redis_s
        others_s = cpu_s_of_machine() - machine_s - server_s - redis_s - (cpu_s_of_children() - own_s)
        tries.append((outcome, Cost(server_s / seconds, max(0.0, others_s / seconds))))
    return min(tries, key=lambda each: each[1].others)
