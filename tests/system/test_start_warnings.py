"""What the service warns of at its start."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.redis_server import free_port
from tests.support.replica import Replica

WARNING = "service.may_phone_twice"

VAPI = {"vapi_api_key": "key", "vapi_phone_number_id": "phone"}
KESTRA = {"kestra_url": "http://127.0.0.1:9"}
ADMIN = {"api_admin_tokens": "admin"}


def _redis(scheme: str) -> dict[str, str]:
    """Nobody is there; a Sentinel's URL needs a service's name, and others read it as a path that they ignore."""
    return {"redis_url": f"{scheme}://127.0.0.1:{free_port()}" + ("/main" if "sentinel" in scheme else "")}


def log_of_a_start(replica: Replica) -> str:
    replica.stop()  # which writes what the log still holds back
    assert "service.started" in replica.log
    return replica.log


@pytest.mark.parametrize(
    ("scheme", "dialer"),
    [("redis+sentinel", VAPI), ("rediss+sentinel", KESTRA), ("redis+cluster", KESTRA), ("rediss+cluster", VAPI)],
)
def test_who_may_phone_twice_after_a_failover_is_warned(
    start_replica: Callable[..., Replica], scheme: str, dialer: dict[str, str]
) -> None:
    assert WARNING in log_of_a_start(start_replica(**_redis(scheme), **dialer, **ADMIN))


@pytest.mark.parametrize(
    "settings",
    [
        {**_redis("redis"), **VAPI, **ADMIN},
        {**_redis("redis+cluster"), **VAPI, **ADMIN, "store_wait_replicas": "1"},
        {**_redis("redis+cluster"), **VAPI},
        {**_redis("redis+cluster"), "vapi_api_key": "key", **ADMIN},
        {**_redis("redis+cluster"), **ADMIN},
    ],
    ids=["one Redis", "replicas confirm", "nobody may dial", "no number to dial from", "nothing dials"],
)
def test_nobody_else_is(start_replica: Callable[..., Replica], settings: dict[str, str]) -> None:
    assert WARNING not in log_of_a_start(start_replica(**settings))
