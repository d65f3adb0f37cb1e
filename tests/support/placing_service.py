"""Places calls in this process: our own code on the embedded store, the fakes of VAPI and Kestra behind real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from service.calls.call_request import CallRequest, decode_call_request
from service.jobs.dialer import Method
from service.jobs.placing import Placing, PlacingResult
from service.kestra.client import KestraClient
from service.store.idempotency import IdempotencyStore
from service.store.spool import Spool
from service.vapi.client import VapiClient
from tests.support.call_requests import REQUIRED
from tests.support.opened_store import OpenedStore

A_REQUEST: Final[dict[str, Any]] = {**REQUIRED, "serviceRequestId": "request-42"}


def a_request(**fields: Any) -> CallRequest:
    return decode_call_request({**A_REQUEST, **fields})


class Desk(OpenedStore):
    """A store, the clients that the settings ask for, and what places calls with them."""

    def __init__(self, url: str, variables: dict[str, str]) -> None:
        super().__init__(url, variables)
        self.results: list[tuple[Method, PlacingResult]] = []
        self.spool = Spool(self.settings.spool_dir, self.settings.spool_max_bytes) if self.settings.spool_dir else None
        self._vapi = VapiClient(self.settings) if self.settings.vapi_api_key else None
        self._kestra = KestraClient(self.settings) if self.settings.kestra_url else None
        self.placing = Placing(
            self.settings,
            self._vapi,
            self._kestra,
            self.store,
            IdempotencyStore(self.pipeline, self.keys),
            spool=self.spool,
            on_result=lambda method, result: self.results.append((method, result)),
        )

    async def close(self) -> None:
        await self.placing.close()
        for closable in (self._vapi, self._kestra, self.spool):
            if closable is not None:
                await closable.close()
        await super().close()


@asynccontextmanager
async def opened_desk(url: str = "memory://", **variables: object) -> AsyncIterator[Desk]:
    desk = Desk(url, {name: str(value) for name, value in variables.items()})
    try:
        yield desk
    finally:
        await desk.close()
