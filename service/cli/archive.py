"""``python -m service archive``: makes and checks the archive's tables, erases a phone number, exports calls."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import date
from typing import Final

from service.archive.database import Archive
from service.archive.exporting import first_line, line_of
from service.archive.migrate import find_missing, migrate
from service.cli.connecting import EXIT_FAILED
from service.config import Settings
from service.errors import ArchiveUnavailableError, SettingsError, StoreUnavailableError
from service.redis_client.topology import open_redis
from service.store.calls import CallStore
from service.store.forgetting import Forgetting
from service.store.keys import Keys

CHECK_TIMEOUT_S: Final = 10.0

Action = Callable[[Settings, Archive, argparse.Namespace], Awaitable[int]]


def add_archive_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    sentence = "make and check the tables of DATABASE_URL, erase a phone number, export calls"
    archive = commands.add_parser("archive", help=sentence, description=sentence)
    actions = archive.add_subparsers(metavar="action", required=True)

    def add(name: str, action: Action, sentence: str) -> argparse.ArgumentParser:
        parser = actions.add_parser(name, help=sentence, description=sentence)
        parser.set_defaults(run=lambda settings, options: _run(settings, action, options))
        return parser

    add("migrate", _migrate, "make the tables, or bring them up to date")
    add("check", _check, "say what the database lacks; exit status 1 if there is anything")
    forget = add("forget", _forget, "erase all calls of a phone number, from the archive and from Redis")
    forget.add_argument("phone", help="for example +18645550123")
    export = add("export", _export, "print the calls whose records began on these days (UTC), oldest first")
    export.add_argument("--from", dest="first", metavar="DAY", type=_day, required=True, help="for example 2026-09-01")
    export.add_argument("--to", dest="last", metavar="DAY", type=_day, required=True, help="the last day")
    export.add_argument("--format", choices=("ndjson", "csv"), default="ndjson")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError("must be a day such as 2026-09-01") from None


def _run(settings: Settings, action: Action, options: argparse.Namespace) -> int:
    if settings.database_url is None:
        raise SettingsError("DATABASE_URL: must be set for this command")

    async def run() -> int:
        archive = Archive(settings)
        try:
            return await action(settings, archive, options)
        finally:
            await archive.close()

    try:
        return asyncio.run(run())
    except ArchiveUnavailableError as exc:
        print(f"{exc}: {exc.reason}", file=sys.stderr)
    except StoreUnavailableError as exc:
        print(f"{exc}. Run it again: what is done stays done.", file=sys.stderr)
    return EXIT_FAILED


async def _migrate(_: Settings, archive: Archive, __: argparse.Namespace) -> int:
    applied = await migrate(archive.pool)
    for name in applied:
        print(f"applied {name}")
    if not applied:
        print("The tables were up to date")
    return 0


async def _check(_: Settings, archive: Archive, __: argparse.Namespace) -> int:
    missing = await find_missing(archive.pool, time.monotonic() + CHECK_TIMEOUT_S)
    for sentence in missing:
        print(sentence)
    print("Run `archive migrate`" if missing else "The database has all that the archive needs")
    return EXIT_FAILED if missing else 0


async def _forget(settings: Settings, archive: Archive, options: argparse.Namespace) -> int:
    """The archive first: it knows calls that Redis does not, and those too must leave a tombstone."""
    archived = await archive.forget(options.phone, now_ms=round(time.time() * 1000))
    for call_id in archived:
        print(f"{call_id.decode()}\trow erased")
    keys = Keys(settings.redis_key_prefix)
    redis = open_redis(settings, keys.probes)
    redis.commands.start()
    try:
        forgetting = Forgetting(redis.commands, keys, CallStore(settings, redis.commands, keys))
        deleted = await forgetting.forget(options.phone, archived)
    finally:
        await redis.commands.close()
    for call_id in deleted:
        print(f"{call_id.decode()}\trecord erased")
    print(
        f"{len(archived)} rows and {len(deleted)} records erased; for 30 days, earlier messages of the number are refused"
    )
    return 0


async def _export(_: Settings, archive: Archive, options: argparse.Namespace) -> int:
    sys.stdout.write(first_line(options.format))
    async for stamped in archive.export(options.first, options.last):
        sys.stdout.write(line_of(stamped, options.format))
    return 0
