"""Shared by the commands that talk to a running service: its address and token, reading files, printing answers."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Final

from service.cli.client import ServiceAnswer, ServiceClient
from service.config import Settings
from service.urls import is_http_url

EXIT_FAILED: Final = 1


class UnreadableFileError(Exception):
    """A file named on the command line cannot be read."""


def add_address(
    command: argparse.ArgumentParser, *, needs_admin: bool = False, default_url: str = "http://HOST:PORT"
) -> None:
    command.add_argument("--url", type=_base_url, help=f"base URL of the service (default: {default_url})")
    default = "the first of API_ADMIN_TOKENS" if needs_admin else "the first of API_READ_TOKENS and API_ADMIN_TOKENS"
    command.add_argument("--token", help=f"default: {default}")


def _base_url(text: str) -> str:
    if not is_http_url(text):
        raise argparse.ArgumentTypeError("must be a URL that begins with http:// or https://")
    return text


def connect(settings: Settings, options: argparse.Namespace, *, needs_admin: bool = False) -> ServiceClient:
    readers = () if needs_admin else settings.api_read_tokens
    tokens = (*readers, *settings.api_admin_tokens)
    token = options.token or (tokens[0].reveal() if tokens else None)
    return ServiceClient(options.url or own_url(settings), token)


def own_url(settings: Settings) -> str:
    """Where a service with these settings can be reached from this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - not bound, replaced
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def read_file(file: Path) -> bytes:
    """The file's content; ``-`` reads standard input.

    Raises:
        UnreadableFileError: one line that names the file.
    """
    if str(file) == "-":
        return sys.stdin.buffer.read()
    try:
        return file.read_bytes()
    except OSError as exc:
        raise UnreadableFileError(f"{file}: {exc.strerror}") from exc


def print_answer(answer: ServiceAnswer) -> int:
    if answer.status < 300:
        print(json.dumps(answer.body.get("data", answer.body), indent=2, ensure_ascii=False))
        return 0
    print(f"{answer.status}: {json.dumps(answer.body, ensure_ascii=False)}", file=sys.stderr)
    return EXIT_FAILED
