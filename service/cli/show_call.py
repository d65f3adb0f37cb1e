"""``python -m service show-call``: prints a call's record."""

from __future__ import annotations

import argparse

from service.cli.connecting import add_address, connect, print_answer
from service.config import Settings


def add_show_call_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    sentence = "print a call's record"
    show = commands.add_parser("show-call", help=sentence, description=sentence)
    show.set_defaults(run=_show_call)
    show.add_argument("call_id")
    show.add_argument("--view", choices=("full", "summary"), default="full")
    add_address(show)


def _show_call(settings: Settings, options: argparse.Namespace) -> int:
    return print_answer(connect(settings, options).get_call(options.call_id, view=options.view))
