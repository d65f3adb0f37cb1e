"""``python -m service check-config``: prints the settings, or what is wrong with them."""

from __future__ import annotations

import argparse
import re
import socket
from typing import Any

import msgspec

from service.config import Secret, Settings, variable_of
from service.errors import SettingsError
from service.redis_client.topology import open_redis
from service.store.keys import Keys
from service.store.spool import check_spool


def add_check_config_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    sentence = "print the settings, secrets hidden; exit 2 if one is wrong"
    check = commands.add_parser("check-config", help=sentence, description=sentence)
    check.set_defaults(run=_check_config)


def _check_config(settings: Settings, _: argparse.Namespace) -> int:
    check_reachable(settings)
    for field in msgspec.structs.fields(Settings):
        print(f"{variable_of(field.name)}={shown(getattr(settings, field.name))}")
    return 0


def shown(value: Any) -> str:
    """A setting's value in the form of its environment variable, with secrets hidden."""
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
    """A URL with *** for what is between ``//`` and ``@``, and for a password in its query."""
    scheme, separator, rest = text.partition("://")
    _, at, host = rest.rpartition("@")
    shown_text = f"{scheme}{separator}***@{host}" if separator and at else text
    return re.sub(r"(password=)[^&]*", r"\1***", shown_text)


def check_reachable(settings: Settings) -> None:
    """Try the settings that only a trial can check, without connecting. Raises SettingsError."""
    open_redis(settings, Keys(settings.redis_key_prefix).probes)
    if settings.spool_dir:
        check_spool(settings.spool_dir)
    if reason := why_not_bound(settings.host, 0):
        raise SettingsError(f"HOST: {settings.host} is not an address of this machine: {reason}")


def why_not_bound(host: str, port: int) -> str | None:
    """Why no address of the host can be bound; None when at least one can. Port 0 means any free port."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        return str(exc)
    reasons = [_why_not_bound_to(address, family) for family, _, _, _, address in addresses]
    return None if None in reasons else reasons[0]


def _why_not_bound_to(address: Any, family: int) -> str | None:
    try:
        with socket.socket(family) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does, because of TIME_WAIT
            trial.bind(address)
    except OSError as exc:
        return str(exc)
    return None
