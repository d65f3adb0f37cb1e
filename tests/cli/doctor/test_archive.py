"""What the doctor says about the archive."""

from __future__ import annotations

import pytest

from service.store.keys import Keys
from tests.support.diagnosis import NOBODY_THERE, Diagnosis, diagnose
from tests.support.postgres_server import PostgresProcess
from tests.support.redis_server import RedisProcess


@pytest.fixture
def redis_url(redis_process: RedisProcess) -> str:
    return redis_process.url


def diagnose_archive(redis_url: str, database_url: str, prefix: str = "doctors-archive") -> Diagnosis:
    return diagnose("--url", NOBODY_THERE, redis_url=redis_url, redis_key_prefix=prefix, database_url=database_url)


def test_an_archive_in_order_is_found_so(redis_url: str, postgres_process: PostgresProcess, database: str) -> None:
    diagnosis = diagnose_archive(redis_url, postgres_process.url_of(database))

    assert diagnosis.troubles("archive") == []
    assert diagnosis.one("archive", "backlog").found == "0 changes wait for the archive"


def test_missing_tables_and_a_database_that_is_away_are_errors(
    redis_url: str, postgres_process: PostgresProcess
) -> None:
    found = diagnose_archive(redis_url, postgres_process.url_of(postgres_process.create_database())).one(
        "archive", "database"
    )
    assert (found.level, "archive migrate" in str(found.advice)) == ("error", True)

    found = diagnose_archive(redis_url, "postgresql://someone:hidden@127.0.0.1:9/x").one("archive", "database")
    assert found.level == "error"
    assert "hidden" not in found.found


def test_changes_that_wait_for_long_are_a_warning(
    redis_process: RedisProcess, postgres_process: PostgresProcess, database: str
) -> None:
    stream = Keys("doctors-backlog").archives[3]
    redis_process.client.xadd(stream, {"layout": "1", "call": "call-1"}, id="1000-1")

    diagnosis = diagnose_archive(redis_process.url, postgres_process.url_of(database), "doctors-backlog")

    assert diagnosis.troubles("archive") == ["backlog: warning"]
    assert not redis_process.client.xinfo_groups(stream)


def test_without_a_database_that_is_said(redis_url: str) -> None:
    diagnosis = diagnose("--url", NOBODY_THERE, redis_url=redis_url)
    assert "DATABASE_URL is not set" in diagnosis.one("archive", "database").found
