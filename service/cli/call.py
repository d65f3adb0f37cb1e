"""``python -m service call``: places a call through a running service."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from service.cli.connecting import EXIT_FAILED, add_address, connect, print_answer, read_file
from service.config import Settings


def add_call_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    sentence = "place a call: somebody's phone will ring"
    call = commands.add_parser("call", help=sentence, description=sentence)
    call.set_defaults(run=_call)
    call.add_argument("--request", type=Path, required=True, help="a call request as JSON; - reads standard input")
    call.add_argument("--method", choices=("vapi", "kestra"), help="default: as the service is set")
    call.add_argument("--idempotency-key", help="with the same one, 24 h long, the same request phones only once")
    add_address(call, needs_admin=True)


def _call(settings: Settings, options: argparse.Namespace) -> int:
    try:
        request = json.loads(read_file(options.request))
    except (ValueError, RecursionError) as exc:
        print(f"{options.request}: not valid JSON: {exc}", file=sys.stderr)
        return EXIT_FAILED
    if options.method is not None and isinstance(request, dict):
        request["method"] = options.method
    client = connect(settings, options, needs_admin=True)
    return print_answer(client.place_call(json.dumps(request).encode(), options.idempotency_key))
