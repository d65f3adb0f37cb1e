"""An archive with its tables for replicas under test, and what is in it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from tests.support.archives import make_tables
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.ledger import Ledger
from tests.support.postgres_server import PostgresProcess, PostgresRefusedError


async def until_acknowledged(ledger: Ledger, more: int) -> None:
    """Return when so many further webhooks were acknowledged."""
    enough = len(ledger.acknowledged) + more
    await eventually(lambda: len(ledger.acknowledged) >= enough)


class ArchiveUnderTest:
    """A database of its own, on a server that the test may kill or hang if it is its own."""

    def __init__(self, server: PostgresProcess) -> None:
        self.server = server
        self.database = server.create_database()
        self.url = server.url_of(self.database)

    async def migrate(self) -> ArchiveUnderTest:
        await make_tables(self.url)
        return self

    async def ask(self, question: str) -> str:
        """Of SQL; empty while the server is away."""
        try:
            return await asyncio.to_thread(self.server.ask, question, self.database)
        except PostgresRefusedError:
            return ""

    async def find_missing(self, call_ids: Iterable[str]) -> set[str]:
        """Those that are no rows with a report."""
        found = await self.ask("SELECT call_id FROM vapi_call_results WHERE data_status = 'complete'")
        return set(call_ids) - set(found.split())

    async def until_archived(self, call_ids: Iterable[str], within_s: float = PATIENCE_S) -> None:
        wanted = list(call_ids)

        async def are_rows() -> bool:
            return not await self.find_missing(wanted)

        await eventually(are_rows, within_s)
