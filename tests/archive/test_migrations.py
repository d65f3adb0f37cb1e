"""The archive's tables: made from nothing, made only once, and tied to what else the database has."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from service.archive.connection import PostgresPool
from service.archive.migrate import FOLDER, find_missing, migrate, numbered_migrations
from service.errors import ArchiveUnavailableError
from tests.support.eventually import PATIENCE_S
from tests.support.postgres_server import PostgresProcess

SUPABASE = """
CREATE SCHEMA auth;
CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $$ SELECT current_setting('request.uid', true)::uuid $$;
CREATE TABLE service_requests (id uuid PRIMARY KEY, user_id uuid);
"""


@pytest.fixture
def empty_database(postgres_process: PostgresProcess) -> str:
    return postgres_process.create_database()


@pytest.fixture
async def pool(postgres_process: PostgresProcess, empty_database: str) -> AsyncIterator[PostgresPool]:
    opened = PostgresPool(postgres_process.url_of(empty_database))
    yield opened
    await opened.close()


async def missing(pool: PostgresPool) -> list[str]:
    return await find_missing(pool, time.monotonic() + PATIENCE_S)


async def test_an_empty_database_gets_all_that_is_missing_and_nothing_twice(pool: PostgresPool) -> None:
    assert await missing(pool) == [
        "the table vapi_call_results is missing",
        "the table vapi_call_deletions is missing",
        "the table vapi_forgotten_phones is missing",
    ]
    assert await migrate(pool) == [path.name for _, path in numbered_migrations()]
    assert await missing(pool) == []
    assert await migrate(pool) == []


@pytest.mark.parametrize("versions", range(1, len(numbered_migrations()) + 1))
async def test_each_version_before_becomes_the_present_one(
    postgres_process: PostgresProcess, pool: PostgresPool, empty_database: str, versions: int
) -> None:
    """Here made by hand, as Supabase's own migrations make it."""
    for _, path in numbered_migrations()[:versions]:
        postgres_process.ask(path.read_text(), empty_database)
    await migrate(pool)
    assert await missing(pool) == []


async def test_two_migrations_at_once_do_it_once(
    postgres_process: PostgresProcess, pool: PostgresPool, empty_database: str
) -> None:
    other = PostgresPool(postgres_process.url_of(empty_database))
    try:
        applied = await asyncio.gather(migrate(pool), migrate(other))
    finally:
        await other.close()
    assert sorted(map(len, applied)) == [0, len(numbered_migrations())]
    assert await missing(pool) == []


async def test_a_table_of_the_original_design_is_reported_and_left_alone(
    postgres_process: PostgresProcess, pool: PostgresPool, empty_database: str
) -> None:
    postgres_process.ask("CREATE TABLE vapi_call_results (id uuid, call_id text, status int)", empty_database)
    with pytest.raises(ArchiveUnavailableError, match="missing or old"):
        await migrate(pool)
    for table in ("vapi_call_deletions", "vapi_forgotten_phones"):
        postgres_process.ask(f"CREATE TABLE {table} ()", empty_database)
    found = await missing(pool)
    assert "the column status of vapi_call_results is integer, it must be text" in found
    assert "vapi_call_results has no column transcript" in found
    assert "the index idx_vapi_call_results_by_phone is missing" in found


async def test_the_ties_to_supabase_are_made_once_it_is_there(
    postgres_process: PostgresProcess, pool: PostgresPool, empty_database: str
) -> None:
    await migrate(pool)
    postgres_process.create_roles("service_role", "authenticated")
    postgres_process.ask(SUPABASE, empty_database)
    orphan = (
        "INSERT INTO vapi_call_results (call_id, data_status, version, service_request_id) "
        "VALUES ('c1', 'pending', 1, gen_random_uuid()) RETURNING service_request_id IS NULL"
    )
    assert postgres_process.ask(orphan, empty_database) == "f"
    assert await missing(pool) == [
        "vapi_call_results has no foreign key to service_requests",
        "vapi_call_results has not all of its row-level security policies",
    ]

    await migrate(pool)
    await migrate(pool)

    assert await missing(pool) == []
    assert postgres_process.ask("SELECT service_request_id IS NULL FROM vapi_call_results", empty_database) == "t"


def test_every_migration_is_numbered_but_the_one_that_always_runs() -> None:
    assert [version for version, _ in numbered_migrations()] == [*range(1, len(numbered_migrations()) + 1)]
    assert {path.name for path in FOLDER.iterdir()} == {path.name for _, path in numbered_migrations()} | {
        "supabase.sql"
    }
