"""The command line: ``python -m service`` serves, ``python -m service <command>`` looks at or talks to a service."""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import sqlite3
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from service import __version__
from service.cli_assistant import add_assistant_command
from service.cli_call import add_call_command
from service.cli_service import EXIT_FAILED, UnreadableFileError, add_address, connect, print_answer, read_file
from service.cli_spool import add_spool_command
from service.client import Answer, ServiceClient, UnreachableError, prove
from service.config import Secret, Settings, variable_of
from service.config_loading import load_settings
from service.errors import SettingsError
from service.store.connection import open_redis
from service.store.keys import Keys
from service.store.spool import check_spool
from service.vapi.samples import SAMPLES, sample_message

EXIT_SETTINGS: Final = 2
"""A wrong setting, or a wrong command line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        settings = load_settings(os.environ)
        run: Callable[[Settings, argparse.Namespace], int] = options.run
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
        return run(settings, options)
    except SettingsError as exc:
        print(exc, file=sys.stderr)
        return EXIT_SETTINGS
    except (UnreachableError, UnreadableFileError, sqlite3.Error) as exc:
        print(exc, file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m service", description="VAPI call results for Kestra.")
    parser.add_argument("--version", action="version", version=__version__)
    parser.set_defaults(run=_serve)
    commands = parser.add_subparsers(metavar="command")

    def add(name: str, run: Callable[[Settings, argparse.Namespace], int], sentence: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=sentence, description=sentence)
        command.set_defaults(run=run)
        return command

    add("serve", _serve, "serve (what happens without a command)")
    add("check-config", _check_config, "print the settings, secrets hidden; exit 2 if one is wrong")

    send = add("send-webhook", _send_webhook, "post a sample or a file to a service, proven as VAPI would")
    source = send.add_mutually_exclusive_group()
    source.add_argument("--sample", choices=SAMPLES, default=SAMPLES[0], help="which sample (default: %(default)s)")
    source.add_argument("--file", type=Path, help="a JSON body; - reads standard input")
    send.add_argument("--call-id", default=None, help="the sample's call id (default: a new one)")
    send.add_argument(
        "--auth", choices=("secret", "bearer", "hmac", "legacy", "none"), default="secret",
        help="how to prove it with VAPI_WEBHOOK_SECRET (default: %(default)s)",
    )  # fmt: skip
    add_address(send)

    show = add("show-call", _show_call, "print a call's record")
    show.add_argument("call_id")
    show.add_argument("--view", choices=("full", "summary"), default="full")
    add_address(show)

    wait = add("wait", _wait, "wait until a call's record is final, then print it")
    wait.add_argument("call_id")
    wait.add_argument("--kestra", action="store_true", help="print it as the outputs of a Kestra script task")
    wait.add_argument("--timeout", type=_seconds, default=2100.0, help="seconds (default: %(default)s)")
    wait.add_argument("--view", choices=("full", "summary"), default="full")
    add_address(wait)

    add_call_command(commands)
    add_assistant_command(commands)
    add_spool_command(commands)
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError("must be seconds, 0 or more")
    return seconds


def _serve(settings: Settings, _: argparse.Namespace) -> int:
    from service.log import configure_logs
    from service.server import serve

    check_reachable(settings)
    if reason := _why_not_bound(settings.host, settings.port):
        raise SettingsError(f"PORT: {settings.port} of {settings.host} cannot be listened on: {reason}")
    configure_logs(settings)
    return serve(settings)


def check_reachable(settings: Settings) -> None:
    """What can only be found out by trying, without connecting: raises SettingsError."""
    open_redis(settings, Keys(settings.redis_key_prefix))
    if settings.spool_dir:
        check_spool(settings.spool_dir)
    if reason := _why_not_bound(settings.host, 0):
        raise SettingsError(f"HOST: {settings.host} is no address of this machine: {reason}")


def _why_not_bound(host: str, port: int) -> str | None:
    """Why no socket can be bound there, to none of the addresses that the name has; None when one can. Port 0 is any."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        return str(exc)
    reasons = [_why_not_bound_to(address, family) for family, _, _, _, address in addresses]
    return None if None in reasons else reasons[0]


def _why_not_bound_to(address: Any, family: int) -> str | None:
    try:
        with socket.socket(family) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server, past what is in TIME_WAIT
            trial.bind(address)
    except OSError as exc:
        return str(exc)
    return None


def _check_config(settings: Settings, _: argparse.Namespace) -> int:
    check_reachable(settings)
    for field in msgspec.structs.fields(Settings):
        print(f"{variable_of(field.name)}={shown(getattr(settings, field.name))}")
    return 0


def shown(value: Any) -> str:
    """A setting's value as the environment would give it, secrets hidden."""
    if isinstance(value, Secret):
        return "***"
    if isinstance(value, tuple):
        return ",".join(map(shown, value))
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value is None else _without_password(str(value))


def _without_password(text: str) -> str:
    """A URL without what stands between ``//`` and ``@``, and without a password in its query."""
    scheme, separator, rest = text.partition("://")
    _, at, host = rest.rpartition("@")
    shown_text = f"{scheme}{separator}***@{host}" if separator and at else text
    return re.sub(r"(password=)[^&]*", r"\1***", shown_text)


def _send_webhook(settings: Settings, options: argparse.Namespace) -> int:
    if options.file is None:
        call_id = options.call_id or f"sample-{uuid.uuid4()}"
        body = json.dumps(sample_message(options.sample, call_id)).encode()
    else:
        body = read_file(options.file)
    answer = connect(settings, options).send_webhook(body, prove(settings, options.auth, body))
    return print_answer(answer)


def _show_call(settings: Settings, options: argparse.Namespace) -> int:
    return print_answer(connect(settings, options).get_call(options.call_id, view=options.view))


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
            return print_answer(answer)  # a 5xx may be a load balancer's, between one replica and the next
        if time.monotonic() >= deadline:
            print(f"No final record of call {options.call_id} within {options.timeout:g} s", file=sys.stderr)
            return EXIT_FAILED
        time.sleep(max(0.0, min(1.0 - (time.monotonic() - started), deadline - time.monotonic())))


def _ask(client: ServiceClient, options: argparse.Namespace, wait_s: float) -> Answer | None:
    """One long poll; None when nobody answered, which passes when a replica is restarted."""
    try:
        return client.get_call(options.call_id, wait_s=wait_s, view=options.view)
    except UnreachableError as exc:
        print(f"{exc}; trying again", file=sys.stderr)
        return None


def _print_result(answer: Answer, *, as_outputs: bool) -> None:
    """The record, or the one line that a Kestra script task reads as its outputs.

    https://kestra.io/docs/workflow-components/outputs: a line of exactly ``::{"outputs": {...}}::``.
    """
    record = answer.body["data"]
    if as_outputs:
        print("::" + json.dumps({"outputs": {"call_result": record}}) + "::", flush=True)
    else:
        print(json.dumps(record, indent=2, ensure_ascii=False))
