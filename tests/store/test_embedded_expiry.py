"""The embedded store frees what has expired although nobody asks for it again."""

from __future__ import annotations

import gc

from fakeredis import FakeServer
from starlette.routing import Router

from service.assembly import assemble
from service.lifespan import lifespan_of
from service.load_config import load_settings
from tests.support.eventually import eventually
from tests.support.store_events import change_from
from tests.support.vapi_sender import full_report

CALLS = 300
WITHIN_S = 60.0
LEFT = 200
"""Of the keys: index entries and counts have lives of their own; CALLS records and as many phone keys are more."""


def keys_held(servers: list[FakeServer]) -> int:
    """Expired ones included: what takes memory, not what a command shows."""
    return sum(len(database._dict) for server in servers for database in server.dbs.values())


def servers_alive() -> list[FakeServer]:
    return [thing for thing in gc.get_objects() if isinstance(thing, FakeServer)]


async def test_many_calls_that_expired_are_freed_although_nobody_reads_them() -> None:
    before = servers_alive()
    state, redis = assemble(load_settings({"REDIS_URL": "memory://", "RESULT_TTL_S": "1", "PENDING_TTL_S": "2"}))
    own = [server for server in servers_alive() if not any(server is other for other in before)]
    async with lifespan_of(state, redis)(Router()):
        for number in range(CALLS):
            customer = {"number": f"+1864555{number:04}"}
            await state.calls.merge(change_from(full_report(f"call-{number}", customer=customer)))

        async def are_freed() -> bool:
            return keys_held(own) < LEFT

        await eventually(are_freed, WITHIN_S)
