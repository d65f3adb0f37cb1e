"""``python -m service archive``: an operator makes the tables, checks them, exports calls and erases a phone number."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import msgspec
import pytest

from service.cli.main import main
from tests.support.archives import open_archive
from tests.support.commands import run
from tests.support.postgres_server import PostgresProcess
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.routes import CALLS
from tests.support.service_api import connected, deliver
from tests.support.store_events import change_from, lifetime_of
from tests.support.vapi_sender import full_report, message, status_update

NUMBER = "+18645550177"
DAY_MS = 86_400_000
FIRST_MS = 1_788_220_800_000
"""2026-09-01T00:00:00Z"""


def test_the_tables_are_made_once_and_checked(postgres_process: PostgresProcess) -> None:
    url = postgres_process.url_of(postgres_process.create_database())

    before = run("archive", "check", database_url=url, from_nothing=True)
    made = run("archive", "migrate", database_url=url)
    again = run("archive", "migrate", database_url=url)
    after = run("archive", "check", database_url=url)

    assert (before.returncode, before.stdout.splitlines()[-1]) == (1, "Run `archive migrate`")
    assert (made.returncode, made.stdout) == (0, "applied 0001_call_results.sql\n")
    assert (again.returncode, again.stdout) == (0, "The tables were up to date\n")
    assert (after.returncode, after.stdout) == (0, "The database has all that the archive needs\n")


def test_a_database_that_is_not_there_or_not_named_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = run("archive", "check", database_url="postgresql://u:hunter7@127.0.0.1:1/x")
    assert (nowhere.returncode, nowhere.stderr) == (1, "The archive cannot be used now: ConnectionRefusedError\n")
    assert main(["archive", "migrate"]) == 2
    assert capsys.readouterr().err == "DATABASE_URL: must be set for this command\n"


async def archived(url: str) -> None:
    """Three calls, one a day, each with a comma, a quote and a line break in what was said."""
    archive = open_archive(url)
    calls = []
    for day in range(3):
        report = full_report(f"call-{day}", customer={"number": NUMBER})
        report["message"]["artifact"]["transcript"] = 'AI: "Hello",\nUser: =1+1\n'
        stamped = lifetime_of(change_from(report))
        call = msgspec.structs.replace(stamped.call, created_at_ms=FIRST_MS + day * DAY_MS + DAY_MS - 1)
        calls.append(msgspec.structs.replace(stamped, call=call))
    await archive.write(calls, {})
    await archive.close()


async def test_an_export_holds_the_calls_of_its_days(postgres_process: PostgresProcess, database: str) -> None:
    url = postgres_process.url_of(database)
    await archived(url)
    days = ("--from", "2026-09-01", "--to", "2026-09-02")

    lines = run("archive", "export", *days, database_url=url)
    table = run("archive", "export", *days, "--format", "csv", database_url=url)

    records = [json.loads(line) for line in lines.stdout.splitlines()]
    assert [record["call_id"] for record in records] == ["call-0", "call-1"]
    assert records[0]["archived"] is True
    rows = [*csv.DictReader(io.StringIO(table.stdout))]
    assert [row["call_id"] for row in rows] == ["call-0", "call-1"]
    assert json.loads(rows[0]["transcript"]) == records[0]["transcript"]
    assert (rows[0]["outcome"], rows[0]["cost"], rows[0]["urgency"]) == ("completed", str(records[0]["cost"]), "")
    assert rows[0].keys() == records[0].keys() - {"archived"}


async def test_a_forgotten_number_is_erased_everywhere_and_stays_so(
    postgres_process: PostgresProcess, database: str, redis_process: RedisProcess
) -> None:
    url = postgres_process.url_of(database)
    await archived(url)
    places: dict[str, Any] = {"redis_url": redis_process.url, "redis_key_prefix": database, "database_url": url}
    with_archive = Replica(**places).start()
    try:
        async with connected(with_archive) as client:
            await deliver(client, status_update("in-progress", "call-9", customer={"number": NUMBER}))
            assert (await client.get(CALLS + "call-0")).status_code == 200

            done = run("archive", "forget", "+1 (864) 555-0177", **places)

            assert done.returncode == 0, done.stderr
            assert done.stdout.splitlines()[:3] == [f"call-{day}\trow erased" for day in range(3)]
            assert "call-9\trecord erased" in done.stdout
            for call_id in ("call-0", "call-9"):
                assert (await client.get(CALLS + call_id)).status_code == 404
                await deliver(client, message("speech-update", call_id, timestamp=1, customer={"number": NUMBER}))
                assert (await client.get(CALLS + call_id)).status_code == 404
    finally:
        with_archive.stop()
