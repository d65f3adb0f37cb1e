"""What the archive's tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.postgres_server import PostgresProcess


@pytest.fixture
def own_postgres() -> Iterator[PostgresProcess]:
    """A PostgreSQL that the test may hang, kill or stop."""
    server = PostgresProcess().start()
    yield server
    server.remove()
