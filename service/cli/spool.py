"""``python -m service spool``: lists and shows spooled changes, drains them, retries or drops rejected ones."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import msgspec

from service.calls.record import iso_of
from service.calls.status import status_at
from service.calls.stored_call import Merged
from service.cli.connecting import EXIT_FAILED
from service.config import Settings
from service.errors import SettingsError
from service.redis_client.topology import open_redis
from service.store.call_codec import UnknownLayoutError, UnreadableChangeError, decode_spooled
from service.store.calls import CallStore
from service.store.keys import Keys
from service.store.spool import Spool, open_file
from service.store.spool_file import FILE_NAME, SpooledChange, SpoolFile


def add_spool_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    sentence = "look into the spool of SPOOL_DIR, drain it, retry or drop what was set aside"
    spool = commands.add_parser("spool", help=sentence, description=sentence)
    actions = spool.add_subparsers(metavar="action", required=True)
    actions.add_parser("list", help="what it holds, oldest first").set_defaults(run=_list)
    show = actions.add_parser("show", help="print one change")
    show.add_argument("id", type=int)
    show.set_defaults(run=_show)
    actions.add_parser("drain", help="merge what waits into Redis now").set_defaults(run=_drain)
    retry = actions.add_parser("retry", help="let a change that was set aside wait for the next drain again")
    _add_selection(retry)
    retry.set_defaults(run=_retry)
    drop = actions.add_parser("drop", help="forget a change, for good")
    _add_selection(drop)
    drop.set_defaults(run=_drop)


def _add_selection(action: argparse.ArgumentParser) -> None:
    which = action.add_mutually_exclusive_group(required=True)
    which.add_argument("id", type=int, nargs="?")
    which.add_argument("--rejected", action="store_true", help="all that was set aside")


def _list(settings: Settings, _: argparse.Namespace) -> int:
    for spooled in _open(settings).list():
        spooled_at = iso_of(spooled.spooled_at_ms)
        state = f"rejected: {spooled.rejected}" if spooled.rejected else "waiting"
        print(f"{spooled.id}\t{spooled.call_id}\t{spooled_at}\t{len(spooled.change)} bytes\t{state}")
    return 0


def _show(settings: Settings, options: argparse.Namespace) -> int:
    for spooled in _open(settings).list():
        if spooled.id == options.id:
            print(_described(spooled))
            return 0
    print(f"The spool holds no change {options.id}", file=sys.stderr)
    return EXIT_FAILED


def _described(spooled: SpooledChange) -> str:
    try:
        change = decode_spooled(spooled.change)
    except (UnknownLayoutError, UnreadableChangeError) as exc:
        return f"change {spooled.id} of call {spooled.call_id} cannot be read: {exc}"
    shown = {name: msgspec.Raw(fragment) for name, fragment in change.facts.known().items()}
    described = {
        "id": spooled.id,
        "call_id": spooled.call_id,
        "spooled_at": iso_of(spooled.spooled_at_ms),
        "rejected": spooled.rejected,
        "status": status_at(change.status),
        "timestamp_ms": change.timestamp_ms,
        "facts": shown,
    }
    return msgspec.json.format(msgspec.json.encode(described)).decode()


def _drain(settings: Settings, _: argparse.Namespace) -> int:
    return asyncio.run(_drain_all(settings))


async def _drain_all(settings: Settings) -> int:
    _open(settings).close()
    spool = Spool(settings.spool_dir or "", settings.spool_max_bytes)
    keys = Keys(settings.redis_key_prefix)
    redis = open_redis(settings, keys.probes)
    store = CallStore(settings, redis.commands, keys)
    redis.commands.start()
    merged: list[Merged] = []
    try:
        await spool.drain_all(store.merge, merged.append)
    finally:
        await spool.close()
        await redis.commands.close()
    print(f"{len(merged)} merged, {spool.held.waiting} waiting, {spool.held.rejected} rejected")
    return EXIT_FAILED if spool.held.waiting else 0


def _retry(settings: Settings, options: argparse.Namespace) -> int:
    file = _open(settings)
    waiting = file.take_up_again(_selected(file, options))
    print(f"{waiting} waiting again")
    return 0 if waiting or options.rejected else EXIT_FAILED


def _drop(settings: Settings, options: argparse.Namespace) -> int:
    file = _open(settings)
    dropped = file.remove(_selected(file, options))
    print(f"{dropped} dropped")
    return 0 if dropped or options.rejected else EXIT_FAILED


def _selected(file: SpoolFile, options: argparse.Namespace) -> list[int]:
    return [one.id for one in file.list() if one.rejected] if options.rejected else [options.id]


def _open(settings: Settings) -> SpoolFile:
    if not settings.spool_dir:
        raise SettingsError("SPOOL_DIR: must be set for this command")
    folder = Path(settings.spool_dir)
    if not (folder / FILE_NAME).exists():
        raise SettingsError(f"SPOOL_DIR: there is no spool in {folder}")
    return open_file(settings.spool_dir, settings.spool_max_bytes)
