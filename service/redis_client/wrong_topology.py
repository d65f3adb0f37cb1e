"""Notices when REDIS_URL leads to another kind of Redis than it says."""

from __future__ import annotations

import math
import time
from typing import Final

import structlog

from service.errors import StoreUnavailableError
from service.redis_client.command import unavailable

log = structlog.get_logger(__name__)

IS_A_CLUSTER: Final = (
    "REDIS_URL leads to a node of a Redis Cluster: it must begin with redis+cluster:// (with TLS: rediss+cluster://)"
)
IS_NO_CLUSTER: Final = (
    "REDIS_URL leads to a Redis that is not a Cluster: it must begin with redis:// (with TLS: rediss://)"
)

BELIEVED_FOR_S: Final = 10.0
"""The sweep scans every bucket every 1.5 s, so a problem not seen again for this long is over."""

LOG_EVERY_S: Final = 60.0


class WrongTopology:
    """``problem`` says what is wrong with the URL, by Redis's replies of the last seconds; None if nothing is."""

    def __init__(self) -> None:
        self._problem = ""
        self._noticed_at = self._logged_at = -math.inf

    @property
    def problem(self) -> str | None:
        return self._problem if time.monotonic() - self._noticed_at < BELIEVED_FOR_S else None

    def notice(self, problem: str) -> StoreUnavailableError:
        """Note the problem; returns the error for the request that met it."""
        now = time.monotonic()
        if now - self._logged_at > LOG_EVERY_S:
            log.error("redis.wrong_topology", advice=problem)
            self._logged_at = now
        self._problem, self._noticed_at = problem, now
        return unavailable(ConnectionError(problem))
