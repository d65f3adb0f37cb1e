"""A stream of a call's events that only the archive has."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.archive_ledger import ArchiveUnderTest
from tests.support.event_streams import events_of, follow
from tests.support.postgres_server import PostgresProcess
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.service_api import connected, deliver, new_call_id
from tests.support.vapi_sender import full_report


async def test_a_stream_that_was_opened_while_the_database_hangs_gets_the_archived_record_afterwards(
    own_postgres: PostgresProcess, redis_process: RedisProcess, start_replica: Callable[..., Replica]
) -> None:
    archive = await ArchiveUnderTest(own_postgres).migrate()
    call_id = new_call_id()
    settings = {"redis_url": redis_process.url, "database_url": archive.url}
    async with connected(start_replica(**settings, redis_key_prefix=new_call_id())) as client:
        await deliver(client, full_report(call_id))
        await archive.until_archived([call_id])
    # The Redis of another prefix does not know the call.
    async with connected(start_replica(**settings, redis_key_prefix=new_call_id())) as client:
        own_postgres.pause()
        async with follow(client, events_of(call_id)) as stream:
            assert (await stream.next("call")).data["data_status"] == "pending"
            own_postgres.resume()
            assert (await stream.next("call")).data["data_status"] == "complete"
            assert await stream.rest() == []
