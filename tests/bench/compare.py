"""How fast the service is beside others that do the same work, on this machine, in one run.

    python -m tests.bench.compare [--quick] [--rounds 9] [--seconds 1] [--only WORD ...]

Starts every contender (peers.py) and one redis-server, then, workload by workload (workloads.py), warms each up and
measures them in turn: A B C, A B C, ... The server under test has one core, wrk and Redis another. Prints a table and
writes results.md and results.svg; a quick run, a smoke test, leaves those alone and writes to the cache folder.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench import load, report, sections
from tests.bench.load import Running, Sample, WrongAnswerError
from tests.bench.peers import CACHE, OURS, REDIS, Peer, all_peers, versions
from tests.bench.servers import LOAD_CORE, SERVER_CORE, Server, pinned
from tests.bench.workloads import POLL, REPORT, Workload, all_workloads, write_templates

HERE = Path(__file__).parent


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--quick", action="store_true", help="one round of a second each")
    # Short rounds, and many: other machines on the same host slow this one down for half a minute at a time, and within
    # a round of nine seconds they disturb all alike. With three rounds of 3 s each, ratios differed by a third.
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--seconds", type=int, default=1)
    options.add_argument("--only", nargs="*", default=[], help="contenders whose name has one of these words, and ours")
    chosen = options.parse_args()
    if chosen.quick:
        chosen.rounds = chosen.seconds = 1
    subprocess.run([str(HERE / "get_tools.sh"), sys.executable, str(CACHE)], check=True)
    figures = report.Figures(rounds=chosen.rounds, seconds=chosen.seconds, versions=versions())
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, contenders(Path(folder), chosen.only, figures) as up:
        redis, running = up
        measure_all(figures, redis, running, Path(folder))
        measure_redis(figures, chosen.rounds)
    text = report.as_markdown(figures)
    is_quick = chosen.quick or bool(chosen.only)
    sections.publish(text, is_quick=is_quick)
    target = CACHE if is_quick else HERE
    (target / "results.svg").write_text(report.as_svg(figures))
    say(f"written to {target}/results.md and results.svg")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def contenders(folder: Path, only: list[str], figures: report.Figures) -> Iterator[tuple[Server, list[Running]]]:
    """Redis and every contender that can be had, up; all stopped in the end."""
    redis_command = ["redis-server", "--port", "{port}", "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    redis = Server(redis_command, {}, folder / "redis.log", LOAD_CORE)
    running: list[Running] = []
    try:
        redis.wait_until_it_listens()
        for number, peer in enumerate(all_peers(f"redis://127.0.0.1:{redis.port}/0")):
            if peer.name == OURS or not only or any(word in peer.name for word in only):
                start(peer, folder / f"{number}.log", running, figures)
        yield redis, running
    finally:
        for each in running:
            each.server.stop()
        redis.stop()


def start(peer: Peer, log: Path, running: list[Running], figures: report.Figures) -> None:
    if not peer.needs.exists():
        leave_out(figures, peer.name, "it could not be installed")
        return
    server = Server(peer.command, peer.settings, log)
    try:
        server.wait_until_it_listens()
    except RuntimeError as exc:
        leave_out(figures, peer.name, str(exc))
    else:
        running.append(Running(peer, server))


def leave_out(figures: report.Figures, name: str, reason: str) -> None:
    say(f"SKIPPED: {name}: {reason}")
    figures.skipped.append(f"{name}: {reason.splitlines()[0][:200]}")


def measure_all(figures: report.Figures, redis: Server, running: list[Running], folder: Path) -> None:
    workloads = all_workloads()
    templates = write_templates(workloads, folder)
    for workload in workloads:
        template = templates[workload.name]
        ready = [each for each in running if takes_part(each.peer, workload)]
        ready = [each for each in ready if is_ready(figures, redis, each, workload, template)]
        for number in range(figures.rounds):
            for each in ready:
                sample = load.run_quietly(each, redis, workload, template, figures.seconds)
                figures.add(workload.name, each.peer.name, sample)
                say(line_of(workload, each.peer, number, sample))


def takes_part(peer: Peer, workload: Workload) -> bool:
    return peer.name == OURS or not workload.only_ours


def is_ready(figures: report.Figures, redis: Server, each: Running, workload: Workload, template: Path) -> bool:
    """Warm, its calls stored and its answers right; otherwise it is left out of this workload."""
    try:
        etag = ""
        if workload.needs_etags:
            plain = next(other for other in all_workloads() if other.name == POLL)
            etag = load.collect_etags(each, workload, plain)[7]
        load.check(each, workload, etag)
        load.prime(each, redis, workload, template)
        load.check(each, workload, etag)
    except (WrongAnswerError, OSError) as exc:
        leave_out(figures, f"{each.peer.name}, {workload.name}", str(exc))
        return False
    return True


def line_of(workload: Workload, peer: Peer, number: int, sample: Sample) -> str:
    figures = f"{sample.per_second:9,.0f}/s {sample.cpu_us:7.1f} us, core {sample.busy:4.0%} busy, others {sample.disturbance:4.0%}"
    return f"{workload.name} | {number + 1} | {peer.name:48} {figures}" + (
        f", {sample.errors} ERRORS" if sample.errors else ""
    )


def measure_redis(figures: report.Figures, rounds: int) -> None:
    """Redis by itself, in a server of its own: nothing that the contenders store shares its memory."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        command = ["redis-server", "--port", "{port}", "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        alone = Server(command, {}, Path(folder) / "redis.log", LOAD_CORE)
        try:
            alone.wait_until_it_listens()
            for _ in range(rounds):
                for test, workload in (("set", REPORT), ("get", POLL)):
                    figures.add(workload, REDIS, benchmark(alone, test))
        finally:
            alone.stop()


def benchmark(redis: Server, test: str, requests: int = 100_000) -> Sample:
    options = [
        "-p",
        str(redis.port),
        "-c",
        "64",
        "-r",
        "10000",
        "-d",
        "23000",
        "-n",
        str(requests),
        "--csv",
        "-t",
        test,
    ]
    before_s = redis.cpu_s()
    done = subprocess.run(pinned(SERVER_CORE, "redis-benchmark", *options), capture_output=True, text=True, check=True)
    cpu_s = redis.cpu_s() - before_s
    per_second = float(done.stdout.strip().splitlines()[-1].split(",")[1].strip('"'))
    return Sample(per_second, cpu_s * 1e6 / requests, cpu_s * 1e6 / requests, cpu_s * per_second / requests, 0)


if __name__ == "__main__":
    main()
