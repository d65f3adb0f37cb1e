"""The command line: ``python -m service`` serves, ``python -m service <command>`` runs one command."""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from service import __version__
from service.cli.archive import add_archive_command
from service.cli.assistant import add_assistant_command
from service.cli.call import add_call_command
from service.cli.check_config import add_check_config_command, check_reachable, why_not_bound
from service.cli.client import UnreachableError
from service.cli.connecting import EXIT_FAILED, UnreadableFileError
from service.cli.doctor.command import add_doctor_command
from service.cli.send_webhook import add_send_webhook_command
from service.cli.show_call import add_show_call_command
from service.cli.spool import add_spool_command
from service.cli.wait import add_wait_command
from service.config import Settings
from service.errors import SettingsError
from service.load_config import load_settings
from service.log import configure_logs, console_renderer

EXIT_SETTINGS: Final = 2
"""A wrong setting, or a wrong command line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        settings = load_settings(os.environ)
        run: Callable[[Settings, argparse.Namespace], int] = options.run
        lines = [*structlog.get_config()["processors"][:-1], console_renderer()]
        structlog.configure(processors=lines, logger_factory=structlog.PrintLoggerFactory(sys.stderr))
        status = run(settings, options)
        if run is not _serve:  # it writes its log in a way of its own, and a log that fails must not change how it ends
            sys.stdout.flush()
    except SettingsError as exc:
        print(exc, file=sys.stderr)
        return EXIT_SETTINGS
    except (UnreachableError, UnreadableFileError, sqlite3.Error) as exc:
        print(exc, file=sys.stderr)
        return EXIT_FAILED
    except BrokenPipeError:
        # Who read the output, such as ``head``, has enough. Python would write the rest at its exit, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except KeyboardInterrupt:
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m service", description="VAPI call results for Kestra.")
    parser.add_argument("--version", action="version", version=__version__)
    parser.set_defaults(run=_serve)
    commands = parser.add_subparsers(metavar="command")

    sentence = "serve (what happens without a command)"
    commands.add_parser("serve", help=sentence, description=sentence).set_defaults(run=_serve)
    add_check_config_command(commands)
    add_doctor_command(commands)
    add_send_webhook_command(commands)
    add_show_call_command(commands)
    add_wait_command(commands)
    add_call_command(commands)
    add_assistant_command(commands)
    add_spool_command(commands)
    add_archive_command(commands)
    return parser


def _serve(settings: Settings, _: argparse.Namespace) -> int:
    from service.server.serve import serve

    check_reachable(settings)
    if reason := why_not_bound(settings.host, settings.port):
        raise SettingsError(f"PORT: {settings.port} of {settings.host} cannot be listened on: {reason}")
    configure_logs(settings)
    return serve(settings)
