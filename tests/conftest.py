"""What many tests share: a redis-server and a PostgreSQL for the session, and replicas that are stopped whatever happens."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path

import hypothesis
import pytest
import structlog

from service.archive.database import Archive
from tests.support.archives import make_tables, open_archive
from tests.support.postgres_server import PostgresProcess
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.turns import turn
from tests.support.warm_service import end_forkers

LONGEST = (
    "test_archiving",
    "test_archiving_failover",
    "test_callbacks",
    "test_slow_senders",
    "test_batches",
    "test_ledger",
    "test_failover",
    "test_tls_topologies",
    "test_untaken_answers",
    "test_descriptors",
    "test_cut_off_master",
    "test_deploy",
)
WAITING_FOLDERS = ("archive", "outage", "system")
"""Whose tests mostly wait for processes; those of the others mostly compute."""

WAITING_SHARE = 0.8
"""The last fifth of the files only computes, so that a run does not end with one process that waits."""

TESTS_AT_A_TIME = 4 * len(os.sched_getaffinity(0))
"""On this machine. ``make test`` has as many processes (TEST_PROCESSES), so a run that is alone never waits."""

LINES_SHOWN = 20
"""Of each replica's log, when a test fails."""

# A busy machine may take any time for an example, and a run leaves no examples behind.
hypothesis.settings.register_profile("suite", deadline=None, database=None)
hypothesis.settings.load_profile("suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the files that wait evenly among those that compute, so that a core is seldom idle; the longest first."""
    files = dict.fromkeys(item.path for item in items)
    waiting = [path for path in files if path.parent.name in WAITING_FOLDERS or path.stem in LONGEST]
    waiting.sort(key=lambda path: path.stem not in LONGEST)
    computing = [path for path in files if path not in waiting]
    place = {path: number / len(computing) for number, path in enumerate(computing)}
    place |= {path: WAITING_SHARE * number / len(waiting) for number, path in enumerate(waiting)}
    items.sort(key=lambda item: place[item.path])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Take turns with all tests of this machine, also those of another copy of the suite."""
    with turn("test", TESTS_AT_A_TIME):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the replicas logged when a test fails: on another machine it may fail only once."""
    report = yield
    if report.failed:
        for replica in Replica.latest:
            told = [line for line in replica.log.splitlines() if '"status":200' not in line]
            report.sections.append((f"end of the log of {replica.url}", "\n".join(told[-LINES_SHOWN:])))
    return report


@pytest.fixture(scope="session", autouse=True)
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the processes under test write is in a folder that goes away with the run, which makes a thousand of them."""
    tmp_path_factory.getbasetemp()  # the tests' own are elsewhere: pytest keeps those of the last three runs
    with tempfile.TemporaryDirectory(prefix="vapi-cache-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)  # PostgreSQL runs as another user
        tempfile.tempdir = folder
        yield
        tempfile.tempdir = None


@pytest.fixture(scope="session", autouse=True)
def forkers() -> Iterator[None]:
    yield
    end_forkers()


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """The command line sends the logs to its own standard error, which in a test is closed afterwards."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def redis_process() -> Iterator[RedisProcess]:
    """One redis-server for all tests that do it no harm; each uses a key prefix of its own."""
    server = RedisProcess().start()
    yield server
    server.stop()


@pytest.fixture
def own_redis() -> Iterator[RedisProcess]:
    """A redis-server that the test may hang, kill, fill and demote."""
    server = RedisProcess("--enable-debug-command", "yes").start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_process() -> Iterator[PostgresProcess]:
    """One PostgreSQL for all tests that do it no harm; each uses a database of its own."""
    server = PostgresProcess().start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def migrated_template(postgres_process: PostgresProcess) -> str:
    """A database with the archive's tables, to be copied: that takes a third of the time of making them anew."""
    name = postgres_process.create_database()
    asyncio.run(make_tables(postgres_process.url_of(name)))
    return name


@pytest.fixture
def database(postgres_process: PostgresProcess, migrated_template: str) -> str:
    """A database of the test's own, with the archive's tables."""
    return postgres_process.create_database(template=migrated_template)


@pytest.fixture
async def archive(postgres_process: PostgresProcess, database: str) -> AsyncIterator[Archive]:
    opened = open_archive(postgres_process.url_of(database))
    yield opened
    await opened.close()


@pytest.fixture
def start_replica() -> Iterator[Callable[..., Replica]]:
    """Starts replicas; keyword arguments are those of Replica. All are stopped at the end of the test."""
    started: list[Replica] = []

    def start(**settings: object) -> Replica:
        replica = Replica(**settings)
        started.append(replica)
        return replica.start()

    yield start
    for replica in started:
        replica.stop()
