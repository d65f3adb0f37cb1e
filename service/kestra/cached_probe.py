"""Checks whether Kestra answers. Checks within a short time share one request."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from service.errors import UpstreamError
from service.kestra.api_version import CONFIGS
from service.kestra.connection import verify

if TYPE_CHECKING:
    from service.outbound import HttpAnswer, HttpSession

TROUBLE_VALID_S: Final = 1.0
"""Short, so that we do not report trouble for long after Kestra is back."""


class CachedProbe:
    """Caches Kestra's answer to CONFIGS, successful or not.

    Args:
        within_s: longest that Kestra may take to answer.
        valid_s: how long an answer is cached; an error is cached for TROUBLE_VALID_S at most.
    """

    def __init__(self, session: HttpSession, *, within_s: float, valid_s: float) -> None:
        self._session = session
        self._within_s = within_s
        self._valid_s = valid_s
        self._lock = asyncio.Lock()
        self._until = 0.0
        self._seen: HttpAnswer | str = ""
        """Kestra's answer, or a sentence that says what was wrong."""

    async def get(self) -> HttpAnswer:
        """Raises UpstreamError: Kestra does not answer in time, is in trouble, or refuses our credentials."""
        async with self._lock:
            if time.monotonic() >= self._until:
                self._seen = await self._ask()
                is_trouble = isinstance(self._seen, str)
                self._until = time.monotonic() + (min(TROUBLE_VALID_S, self._valid_s) if is_trouble else self._valid_s)
            if isinstance(self._seen, str):
                raise UpstreamError(self._seen)
            return self._seen

    async def _ask(self) -> HttpAnswer | str:
        try:
            return verify(await self._session.get(CONFIGS, within_s=self._within_s))
        except UpstreamError as exc:
            return str(exc)
