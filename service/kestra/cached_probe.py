"""Whether Kestra answers, asked once for all who want to know within a short time."""

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
"""Nobody should be told of trouble for long after Kestra is back."""


class CachedProbe:
    """Kestra's answer to CONFIGS, whatever it says; one that is no success is one as well.

    Args:
        within_s: longest that Kestra may take.
        valid_s: for how long its answer is good; trouble for TROUBLE_VALID_S at most.
    """

    def __init__(self, session: HttpSession, *, within_s: float, valid_s: float) -> None:
        self._session = session
        self._within_s = within_s
        self._valid_s = valid_s
        self._lock = asyncio.Lock()
        self._until = 0.0
        self._seen: HttpAnswer | str = ""
        """What Kestra said, or what was wrong in a sentence."""

    async def get(self) -> HttpAnswer:
        """Raises UpstreamError: Kestra does not answer in time, is in trouble, or refuses us."""
        async with self._lock:
            if time.monotonic() >= self._until:
                self._seen = await self._look()
                is_trouble = isinstance(self._seen, str)
                self._until = time.monotonic() + (min(TROUBLE_VALID_S, self._valid_s) if is_trouble else self._valid_s)
            if isinstance(self._seen, str):
                raise UpstreamError(self._seen)
            return self._seen

    async def _look(self) -> HttpAnswer | str:
        try:
            return verify(await self._session.get(CONFIGS, within_s=self._within_s))
        except UpstreamError as exc:
            return str(exc)
