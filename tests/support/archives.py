"""Archives for tests: opened on a database, and their tables made."""

from __future__ import annotations

from service.archive.connection import PostgresPool
from service.archive.database import Archive
from service.archive.migrate import migrate
from service.load_config import load_settings


def open_archive(url: str) -> Archive:
    return Archive(load_settings({"DATABASE_URL": url}))


async def make_tables(url: str) -> None:
    pool = PostgresPool(url)
    await migrate(pool)
    await pool.close()
