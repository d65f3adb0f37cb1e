"""Brings the archive's tables up to date, and says what they lack."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any, Final

from service.archive.connection import PostgresPool
from service.archive.rows import COLUMNS, TABLE
from service.archive.writing import LOCK, LOCKS

FOLDER: Final = Path(__file__).parent / "migrations"

EVERY_TIME: Final = FOLDER / "supabase.sql"
"""Depends on what else the database has, which may change."""

MIGRATE_TIMEOUT_S: Final = 3600.0
"""A later migration may have to rewrite a large table."""

MIGRATION_LOCK: Final = LOCKS
"""The advisory lock after those of the writers."""

VERSIONS: Final = """
CREATE TABLE IF NOT EXISTS vapi_archive_migrations (
  version INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  applied_at TIMESTAMPTZ NOT NULL DEFAULT NOW()
)
"""

_NUMBERED: Final = re.compile(r"([0-9]{4})_.*\.sql")

_TYPE_NAMES: Final = {"timestamptz": "timestamp with time zone"}
"""Where the catalogue has another name for a type."""

_INDEXES: Final = re.compile(r"CREATE INDEX (?:IF NOT EXISTS )?(\w+)")
_TABLES: Final = re.compile(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)")


async def migrate(pool: PostgresPool) -> list[str]:
    """Apply the migrations that were not applied yet, all or none; returns their names. Safe when two run at once.

    Raises:
        ArchiveUnavailableError: PostgreSQL does not answer, or refuses a statement.
    """
    applied: list[str] = []
    async with pool.transaction(time.monotonic() + MIGRATE_TIMEOUT_S) as connection:
        await connection.execute("SELECT pg_advisory_xact_lock($1, $2)", LOCK, MIGRATION_LOCK)
        await connection.execute(VERSIONS)
        known = {version for (version,) in await connection.fetch("SELECT version FROM vapi_archive_migrations")}
        for version, path in numbered_migrations():
            if version in known:
                continue
            await connection.execute(path.read_text())
            insert = "INSERT INTO vapi_archive_migrations (version, name) VALUES ($1, $2)"
            await connection.execute(insert, version, path.name)
            applied.append(path.name)
        await connection.execute(EVERY_TIME.read_text())
    return applied


def numbered_migrations() -> list[tuple[int, Path]]:
    """The migrations in their order, each with its version."""
    found = [(match, path) for path in FOLDER.iterdir() if (match := _NUMBERED.fullmatch(path.name))]
    return sorted((int(match[1]), path) for match, path in found)


async def find_missing(pool: PostgresPool, deadline: float) -> list[str]:
    """What the database lacks, one sentence each; empty when the archive can work.

    It looks at the tables themselves: they may have been made by Supabase's own migrations.

    Raises:
        ArchiveUnavailableError: PostgreSQL does not answer by ``deadline``.
    """
    async with pool.transaction(deadline, reads_only=True) as connection:
        missing = await _missing_tables(connection)
        if missing:
            return [*await _missing_encoding(connection), *missing]
        return [
            *await _missing_encoding(connection),
            *await _missing_columns(connection),
            *await _missing_indexes(connection),
            *await _missing_ties(connection),
        ]


async def _missing_encoding(connection: Any) -> list[str]:
    encoding = await connection.fetchval("SHOW server_encoding")
    return [] if encoding == "UTF8" else [f"the database's encoding is {encoding}, it must be UTF8"]


async def _missing_tables(connection: Any) -> list[str]:
    names = _named_in_migrations(_TABLES)
    found = await connection.fetch("SELECT name FROM unnest($1::text[]) AS name WHERE to_regclass(name) IS NULL", names)
    return [f"the table {name} is missing" for (name,) in found]


async def _missing_columns(connection: Any) -> list[str]:
    rows = await connection.fetch(
        "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute "
        "WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped",
        TABLE,
    )
    types = dict(rows)
    missing = []
    for name, kind in COLUMNS.items():
        wanted = _TYPE_NAMES.get(kind, kind)
        if name not in types:
            missing.append(f"{TABLE} has no column {name}")
        elif types[name] != wanted:
            missing.append(f"the column {name} of {TABLE} is {types[name]}, it must be {wanted}")
    return missing


async def _missing_indexes(connection: Any) -> list[str]:
    rows = await connection.fetch(
        "SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE indrelid = to_regclass($1)",
        TABLE,
    )
    found = {name for (name,) in rows}
    return [f"the index {name} is missing" for name in _named_in_migrations(_INDEXES) if name not in found]


async def _missing_ties(connection: Any) -> list[str]:
    """The foreign key and the policies, where the database has what they are for."""
    has_requests, has_users, has_key, policies = await connection.fetchrow(
        """
        SELECT to_regclass('service_requests') IS NOT NULL, to_regprocedure('auth.uid()') IS NOT NULL,
          EXISTS (SELECT FROM pg_constraint WHERE conrelid = to_regclass($1) AND contype = 'f'),
          (SELECT count(*) FROM pg_policy WHERE polrelid = to_regclass($1))
        """,
        TABLE,
    )
    missing = []
    if has_requests and not has_key:
        missing.append(f"{TABLE} has no foreign key to service_requests")
    if has_users and policies < 1 + has_requests:
        missing.append(f"{TABLE} has not all of its row-level security policies")
    return missing


def _named_in_migrations(pattern: re.Pattern[str]) -> list[str]:
    return [name for _, path in numbered_migrations() for name in pattern.findall(path.read_text())]
