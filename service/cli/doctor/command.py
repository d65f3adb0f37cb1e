"""The command itself: what it takes, what it runs side by side, and its exit status."""

from __future__ import annotations

import argparse
import asyncio
import logging
from contextlib import AsyncExitStack
from typing import Final

import structlog

from service.cli.connecting import add_address
from service.cli.doctor.findings import LEVELS, Finding, worst_of
from service.config import Settings

DEADLINE_S: Final = 10.0

DESCRIPTION: Final = (
    "Check the settings against the running world: Redis, the spool's folder, the archive, VAPI, Kestra, and the service itself "
    "through the address that VAPI uses. It changes nothing but one record of its own, which it deletes."
)
EPILOGUE: Final = "exit status: 0 all is well, 1 the worst is a warning, 2 an error, or a wrong setting or command line"


def add_doctor_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    sentence = "check the settings against Redis, VAPI, Kestra and the running service, and say how to mend them"
    doctor = commands.add_parser("doctor", help=sentence, description=DESCRIPTION, epilog=EPILOGUE)
    doctor.set_defaults(run=_doctor)
    doctor.add_argument("--json", action="store_true", help="print the findings for a program")
    doctor.add_argument("--timeout", type=_seconds, default=DEADLINE_S, help="seconds per check (default: %(default)s)")
    add_address(doctor, default_url="that of VAPI_WEBHOOK_URL, else http://HOST:PORT")


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 600:
        raise argparse.ArgumentTypeError("must be seconds, more than 0 and at most 600")
    return seconds


def _doctor(settings: Settings, options: argparse.Namespace) -> int:
    from service.cli.doctor.report import as_json, as_text, clean

    # What goes wrong becomes a finding; a line in the log beside it would only say the same again.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    report = clean(asyncio.run(_find_all(settings, options)), settings)
    print(as_json(report) if options.json else as_text(report))
    return LEVELS.index(worst_of(finding for findings in report.values() for finding in findings))


async def _find_all(settings: Settings, options: argparse.Namespace) -> dict[str, list[Finding]]:
    from service.cli.doctor.archive_tables import ArchiveTables
    from service.cli.doctor.callback_hosts import callback_checks
    from service.cli.doctor.checking import run_checks
    from service.cli.doctor.credentials import settings_checks
    from service.cli.doctor.kestra_flows import KestraFlows
    from service.cli.doctor.probe import Probe
    from service.cli.doctor.redis_servers import RedisServers
    from service.cli.doctor.spool_folder import spool_checks
    from service.cli.doctor.vapi_account import VapiAccount
    from service.redis_client.topology import open_redis
    from service.store.calls import CallStore
    from service.store.keys import Keys

    keys = Keys(settings.redis_key_prefix)
    redis = open_redis(settings, keys.probes)
    is_embedded = settings.redis_url.startswith("memory:")
    within_s: float = options.timeout
    vapi, kestra = VapiAccount(settings, within_s), KestraFlows(settings, within_s)
    archive = ArchiveTables(settings, redis.commands, keys, within_s)
    calls = None if is_embedded else CallStore(settings, redis.commands, keys)
    probe = Probe(settings, options.url, options.token, calls, within_s)
    parts = {
        "settings": settings_checks(settings),
        "redis": RedisServers(settings, redis, within_s).checks,
        "spool": spool_checks(settings),
        "archive": archive.checks,
        "vapi": vapi.checks,
        "kestra": kestra.checks,
        "callbacks": callback_checks(settings),
        "service": probe.checks,
    }
    async with AsyncExitStack() as at_the_end:
        if redis.sentinels is not None:
            at_the_end.push_async_callback(redis.sentinels.close)
        for close in (redis.commands.close, vapi.close, kestra.close, archive.close, probe.close):
            at_the_end.push_async_callback(close)
        redis.commands.start()
        async with asyncio.TaskGroup() as group:
            running = {part: group.create_task(run_checks(checks, within_s)) for part, checks in parts.items()}
        return {part: task.result() for part, task in running.items()}
