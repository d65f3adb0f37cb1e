"""The tests' own PostgreSQL does what their claims about outages rest on."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from tests.support.postgres_server import PostgresProcess


async def test_a_killed_server_comes_back_with_what_was_committed() -> None:
    server = PostgresProcess().start()
    try:
        database = server.create_database()
        server.ask("CREATE TABLE kept (x int); INSERT INTO kept VALUES (7)", database)
        server.kill()
        with pytest.raises(OSError):
            await asyncpg.connect(server.url_of(database))
        server.start()
        assert server.ask("SELECT x FROM kept", database) == "7"

        connection = await asyncpg.connect(server.url_of(database))
        server.pause()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await connection.fetchval("SELECT 1")
        connection.terminate()
        server.resume()
        assert server.ask("SELECT x FROM kept", database) == "7"
    finally:
        server.remove()
