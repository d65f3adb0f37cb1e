"""Who may subscribe cannot fill the store: 429 beyond the bounds, over all replicas, while webhooks are taken."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from tests.support.eventually import eventually
from tests.support.fake_kestra import FakeKestra
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.service_api import connected, deliver, subscribe_execution
from tests.support.vapi_sender import full_report, status_update


async def test_beyond_the_bounds_it_is_429_at_every_replica_and_what_is_noted_stays_202(
    start_replica: Callable[..., Replica], redis_process: RedisProcess
) -> None:
    settings = {
        "redis_url": redis_process.url,
        "redis_key_prefix": "api-subscription-bounds",
        "max_subscriptions": 10,
    }
    async with FakeKestra() as kestra:
        settings["kestra_url"] = kestra.url
        one, other = start_replica(**settings), start_replica(**settings)
        async with connected(one) as first, connected(other) as second:
            for number in range(9):
                await deliver(first, status_update("ringing", f"known-{number}"))
            assert (await subscribe_execution(first, "made-up-1", "execution")).status_code == 202
            refused = await subscribe_execution(second, "made-up-2", "execution")
            assert (refused.status_code, refused.json()["success"]) == (429, False)

            answers = [await subscribe_execution(first, f"known-{number}", "execution") for number in range(9)]
            assert [answer.status_code for answer in answers] == [202] * 9
            assert (await subscribe_execution(first, "known-0", "another")).status_code == 429
            assert (await subscribe_execution(first, "known-0", "execution")).status_code == 202

            attempts = itertools.count()

            async def is_refused() -> bool:
                """From its next count on; until then it may take one too many."""
                return (await subscribe_execution(second, "known-0", f"another{next(attempts)}")).status_code == 429

            await eventually(is_refused)
            assert (await subscribe_execution(second, "known-0", "execution")).status_code == 202
            await deliver(second, full_report("new"))
