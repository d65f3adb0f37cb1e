"""The archive in trouble: it hangs, is away, lacks its tables, refuses us. Nobody waits for it longer than agreed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from service.archive.database import Archive
from service.archive.migrate import migrate
from service.errors import ArchiveUnavailableError, SettingsError
from service.load_config import load_settings
from service.urls import split_database_url
from tests.support.archives import make_tables, open_archive
from tests.support.certificates import Authority
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.for_each import for_each
from tests.support.postgres_server import PostgresProcess
from tests.support.store_events import change, lifetime_of
from tests.support.talking_server import TalkingServer

CALL = lifetime_of(change(at_ms=1, location='"Bonn"'))


async def find(archive: Archive, within_s: float = PATIENCE_S) -> object:
    return await archive.find(b"call-1", deadline=time.monotonic() + within_s)


async def is_found(archive: Archive) -> bool:
    try:
        return await find(archive) is not None
    except ArchiveUnavailableError:
        return False


async def test_a_hung_or_killed_database_fails_reads_in_time_and_heals_by_itself(own_postgres: PostgresProcess) -> None:
    archive = open_archive(own_postgres.url_of())
    with pytest.raises(ArchiveUnavailableError, match="tables are missing"):
        await archive.write([CALL], {})
    await migrate(archive.pool)
    await archive.write([CALL], {})
    assert await is_found(archive)

    own_postgres.pause()

    async def is_refused_at_once() -> bool:
        """Soon after a read that waited in vain; on a busy machine the next one may come late, and wait as well."""
        with pytest.raises(ArchiveUnavailableError, match="does not answer") as refused:
            await find(archive, within_s=0.2)
        return refused.value.reason == "it failed a moment ago"

    await eventually(is_refused_at_once)
    with pytest.raises(ArchiveUnavailableError):
        await archive.write([CALL], {}, deadline=time.monotonic() + 0.2)
    own_postgres.resume()
    await eventually(lambda: is_found(archive))

    own_postgres.kill()
    with pytest.raises(ArchiveUnavailableError):
        await find(archive)
    own_postgres.start()
    await eventually(lambda: is_found(archive))

    own_postgres.pause()  # closing does not wait for it either
    await archive.close()


async def test_a_database_that_goes_on_hanging_holds_up_one_read_and_not_all(
    own_postgres: PostgresProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.archive.database.PAUSE_AFTER_FAILURE_S", (0.0, 0.0))
    archive = open_archive(own_postgres.url_of())
    await migrate(archive.pool)
    own_postgres.pause()
    with pytest.raises(ArchiveUnavailableError):
        await find(archive, within_s=0.2)

    failures = await asyncio.gather(*(find(archive, within_s=1.0) for _ in range(10)), return_exceptions=True)
    reasons = Counter(failure.reason for failure in failures if isinstance(failure, ArchiveUnavailableError))
    assert reasons == {"no answer in time": 1, "it failed a moment ago": 9}

    given_up = asyncio.create_task(find(archive))  # by a poller that leaves
    await asyncio.sleep(0.1)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    own_postgres.resume()
    assert await find(archive) is None
    await archive.close()


HANG = """
import asyncio, os, signal, sys, time
from service.archive.connection import PostgresPool
from service.archive.writing import LOCK, LOCKS, TAKE_LOCKS

async def hang():
    async with PostgresPool(sys.argv[1]).transaction(time.monotonic() + 5) as connection:
        await connection.execute(TAKE_LOCKS, LOCK, list(range(LOCKS)))
        print("locked", flush=True)
        os.kill(os.getpid(), signal.SIGSTOP)

asyncio.run(hang())
"""


def hang_while_writing(url: str) -> subprocess.Popen[str]:
    """A process that holds all locks of the writers and then stops."""
    other = subprocess.Popen([sys.executable, "-c", HANG, url], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "locked\n"
    return other


async def test_a_replica_that_hangs_while_it_writes_does_not_stop_the_others_for_long(
    archive: Archive, postgres_process: PostgresProcess, database: str
) -> None:
    with hang_while_writing(postgres_process.url_of(database)) as other:
        await archive.write([CALL], {}, deadline=time.monotonic() + PATIENCE_S)
        other.kill()
    assert await is_found(archive)


async def test_the_urls_sslmode_decides_whether_the_server_must_prove_itself(tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path, "ours"), Authority(tmp_path, "another")
    certificate, key = authority.issue("IP:127.0.0.1")
    server = PostgresProcess(ssl="on", ssl_cert_file="server.pem", ssl_key_file="server.key")
    server.give("server.pem", certificate.read_bytes())
    server.give("server.key", key.read_bytes())
    server.start()

    async def problem(query: str) -> str | None:
        archive = open_archive(server.url_of() + query)
        found = await archive.find_problem(time.monotonic() + PATIENCE_S)
        await archive.close()
        return found

    try:
        await make_tables(server.url_of() + "?sslmode=require")
        assert await problem(f"?sslmode=verify-full&sslrootcert={authority.certificate}") is None
        refused = await problem(f"?sslmode=verify-full&sslrootcert={stranger.certificate}")
        assert refused is not None
        assert refused.startswith("SSLCertVerificationError")
    finally:
        server.remove()


@pytest.mark.parametrize(
    "url", ["postgresql://nobody:secret@127.0.0.1:1/x", "postgresql://127.0.0.1/x?sslrootcert=/no"]
)
async def test_a_url_that_leads_nowhere_is_an_archive_that_cannot_be_used(url: str) -> None:
    archive = open_archive(url)
    with pytest.raises(ArchiveUnavailableError) as refused:
        await find(archive)
    assert "secret" not in refused.value.reason
    await archive.close()


@pytest.mark.parametrize("said", [b"R\0\0\0\x08\0\0\0\x05", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
async def test_what_no_postgresql_says_is_blamed_on_no_call(said: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(said)
        await reader.read(1)

    async with TalkingServer(talk) as server:
        archive = open_archive(f"postgresql://somebody@127.0.0.1:{server.port}/x?sslmode=disable")
        with pytest.raises(ArchiveUnavailableError):
            await archive.write([CALL], {}, deadline=time.monotonic() + 1.0)
        await archive.close()


WRONG_URLS = {
    "postgresql://[::1/x": "Invalid IPv6 URL",
    "postgresql://h:secret/": "must name hosts as host:port, separated by commas",
    "postgresql://h/x?pool_size=0": "pool_size must be 1 to 100",
    "postgresql://h/x?sslmode=on": "sslmode must be one of disable, allow, prefer, require, verify-ca, verify-full",
    "mysql://h/x": "must begin with postgresql://",
}


@for_each("url, sentence", [*WRONG_URLS.items()])
def test_a_wrong_url_is_a_wrong_setting(url: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings({"DATABASE_URL": url})
    assert str(refused.value) == f"DATABASE_URL: {sentence}"


def test_the_urls_pool_size_is_ours_and_parameters_of_other_clients_are_left_out() -> None:
    url = (
        "postgresql://u:p%40@a:1,b:2/db?pool_size=7&sslmode=require&pgbouncer=true&connect_timeout=3&application_name=x"
    )
    assert split_database_url(url) == ("postgresql://u:p%40@a:1,b:2/db?sslmode=require&application_name=x", 7)
    assert split_database_url("postgresql:///db") == ("postgresql:/db", 5)


IMPORTS = """
import sys
from service.app import create_app
from service.load_config import load_settings
create_app(load_settings({}))
print(sorted(name for name in sys.modules if name.startswith("asyncpg")))
create_app(load_settings({"DATABASE_URL": "postgresql://127.0.0.1/x"}))
print("asyncpg" in sys.modules)
"""


def test_postgresqls_client_is_imported_only_where_a_database_is_configured() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["[]", "True"]
