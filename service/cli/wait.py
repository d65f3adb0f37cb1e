"""``python -m service wait``: waits until a call's record is final."""

from __future__ import annotations

import argparse
import json
import sys
import time

from service.cli.client import ServiceAnswer, ServiceClient, UnreachableError
from service.cli.connecting import EXIT_FAILED, add_address, connect, print_answer
from service.config import Settings


def add_wait_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    sentence = "wait until a call's record is final, then print it"
    wait = commands.add_parser("wait", help=sentence, description=sentence)
    wait.set_defaults(run=_wait)
    wait.add_argument("call_id")
    wait.add_argument("--kestra", action="store_true", help="print it as the outputs of a Kestra script task")
    wait.add_argument("--timeout", type=_seconds, default=2100.0, help="seconds (default: %(default)s)")
    wait.add_argument("--view", choices=("full", "summary"), default="full")
    add_address(wait)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError("must be seconds, 0 or more")
    return seconds


def _wait(settings: Settings, options: argparse.Namespace) -> int:
    client = connect(settings, options)
    deadline = time.monotonic() + options.timeout
    while True:
        remaining_s = max(0.0, deadline - time.monotonic())
        started = time.monotonic()
        answer = _ask(client, options, min(settings.max_wait_s, remaining_s))
        if answer is not None and answer.status == 200:
            _print_result(answer, as_outputs=options.kestra)
            return 0
        if answer is not None and answer.status < 500 and answer.status not in (202, 429):
            return print_answer(answer)  # a load balancer may send a 5xx while a replica restarts
        if time.monotonic() >= deadline:
            print(f"No final record of call {options.call_id} within {options.timeout:g} s", file=sys.stderr)
            return EXIT_FAILED
        time.sleep(max(0.0, min(1.0 - (time.monotonic() - started), deadline - time.monotonic())))


def _ask(client: ServiceClient, options: argparse.Namespace, wait_s: float) -> ServiceAnswer | None:
    """One long poll; None without an answer, for instance while a replica restarts."""
    try:
        return client.get_call(options.call_id, wait_s=wait_s, view=options.view)
    except UnreachableError as exc:
        print(f"{exc}; trying again", file=sys.stderr)
        return None


def _print_result(answer: ServiceAnswer, *, as_outputs: bool) -> None:
    """Print the record, or the line that a Kestra script task reads as its outputs.

    https://kestra.io/docs/workflow-components/outputs: a line of exactly ``::{"outputs": {...}}::``.
    """
    record = answer.body["data"]
    if as_outputs:
        print("::" + json.dumps({"outputs": {"call_result": record}}) + "::", flush=True)
    else:
        print(json.dumps(record, indent=2, ensure_ascii=False))
