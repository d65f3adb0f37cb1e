"""Connections to PostgreSQL: a pool, and transactions that end by a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from traceback import walk_tb
from typing import Any, Final

from service.errors import ArchiveUnavailableError
from service.urls import split_database_url

IDLE_S: Final = 300.0
"""An idle connection is closed after this time."""

ROW_FAULTS: Final = ("22", "23", "44", "54", "P0")
"""Classes of SQLSTATE that blame what was to be written: data exception, integrity or check option violation, a limit
exceeded, an error that somebody's trigger raises.
https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

NO_TABLE: Final = ("42P01", "42703")
"""The table, or a column of it, is missing."""


class PostgresPool:
    """Opens connections when they are needed, at most ``pool_size`` of the URL at once.

    It works behind a transaction pooler such as PgBouncer: everything runs in a transaction, no statement is prepared
    for a later one, and no setting outlives its transaction.
    """

    def __init__(self, url: str) -> None:
        import asyncpg

        self._asyncpg: Any = asyncpg
        self._url, self._size = split_database_url(url)
        self._pool: Any = None

    @asynccontextmanager
    async def transaction(self, deadline: float, *, reads_only: bool = False) -> AsyncIterator[Any]:
        """A connection inside a transaction, which is committed at the end of the block.

        The server cancels a statement soon after the deadline. It then also drops the locks of a process that is gone.

        Raises:
            ArchiveUnavailableError: it did not end by the deadline (``time.monotonic``), or PostgreSQL is in trouble.
        """
        left_ms = max(1, round((deadline - time.monotonic()) * 1000))
        begin = (
            f"BEGIN{' READ ONLY' if reads_only else ''}; SET LOCAL statement_timeout = {left_ms}; "
            f"SET LOCAL lock_timeout = {left_ms}; SET LOCAL idle_in_transaction_session_timeout = {left_ms + 1000}"
        )
        with _Translation(self._asyncpg):
            async with asyncio.timeout(left_ms / 1000):
                async with self._connection() as connection:
                    await connection.execute(begin)
                    try:
                        yield connection
                    except Exception:
                        if not connection.is_closed():
                            await connection.execute("ROLLBACK")
                        raise
                    await connection.execute("COMMIT")

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        if self._pool is None:
            self._pool = self._asyncpg.create_pool(
                self._url,
                min_size=0,
                max_size=self._size,
                max_inactive_connection_lifetime=IDLE_S,
                statement_cache_size=0,
                reset=_reset_nothing,
            )
            await self._pool  # connects to nothing yet
        connection = await self._pool.acquire()
        try:
            yield connection
        except asyncio.CancelledError:
            # The server may hang. asyncpg would wait for it to confirm that it has cancelled the query.
            connection.terminate()
            raise
        finally:
            await self._pool.release(connection)

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await pool.close()
                return
        pool.terminate()


class _Translation:
    """Turns PostgreSQL's and the system's errors into ours."""

    def __init__(self, asyncpg: Any) -> None:
        self._asyncpg = asyncpg

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        if exc is None or isinstance(exc, ArchiveUnavailableError):
            return
        if isinstance(exc, TimeoutError):
            raise ArchiveUnavailableError("The archive does not answer", reason="no answer in time") from exc
        if _state_of(exc) in NO_TABLE:
            sentence = "The archive's tables are missing or old"
            raise ArchiveUnavailableError(sentence, reason=f"{_condition(exc)}; run `archive migrate`") from exc
        is_expected = isinstance(exc, (OSError, self._asyncpg.PostgresError, self._asyncpg.InterfaceError))
        if is_expected or (isinstance(exc, Exception) and _is_raised_in_client(exc)):
            raise ArchiveUnavailableError("The archive cannot be used now", reason=_condition(exc)) from exc


def row_fault(exc: Exception) -> str | None:
    """The condition by which PostgreSQL refuses the content of a row; None for any other trouble."""
    return _condition(exc) if _state_of(exc).startswith(ROW_FAULTS) else None


def _is_raised_in_client(exc: Exception) -> bool:
    """Whether asyncpg, or what it uses, raised it: at a wrong URL, or at bytes that no PostgreSQL sends.

    The latter has many types: InternalClientError, AssertionError, AttributeError, ... It says nothing about a row.
    """
    frames = (frame for frame, _ in walk_tb(exc.__traceback__))
    return any(frame.f_globals.get("__name__", "").partition(".")[0] == "asyncpg" for frame in frames)


def _state_of(exc: BaseException) -> str:
    return str(getattr(exc, "sqlstate", None) or "")


def _condition(exc: BaseException) -> str:
    """The name of the error. Its text is left out, as it may quote a value."""
    state = _state_of(exc)
    return f"{type(exc).__name__} ({state})" if state else type(exc).__name__


async def _reset_nothing(_: object) -> None:
    """Nothing outlives a transaction, so a connection needs no reset."""
