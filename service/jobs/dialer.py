"""The two ways to place a call: through VAPI directly, or through a Kestra flow that then asks us to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, Literal, TypeVar, get_args

import msgspec
from msgspec import UNSET, UnsetType

from service.calls.call_request import CallRequest
from service.calls.status import status_at
from service.calls.stored_call import CallChange, new_token
from service.config import Settings
from service.errors import Detail, InvalidMessageError, InvalidRequestError, NotConfiguredError, UpstreamError
from service.kestra.client import KestraClient
from service.vapi.api_call import change_of_api_call
from service.vapi.assistant.config import create_assistant_config, metadata_of
from service.vapi.client import VapiClient

Method = Literal["vapi", "kestra"]
METHODS: Final[tuple[Method, ...]] = get_args(Method)

QUEUED: Final = "queued"

_Value = TypeVar("_Value")

MAX_CUSTOMER_NAME_LENGTH: Final = 40
"""VAPI refuses longer ones."""


class PlacedCall(msgspec.Struct, frozen=True):
    """The answer to a request that placed a call."""

    call_id: str | None
    """None through Kestra: the flow places the call."""
    status: str
    method: Method
    execution_id: str | UnsetType = UNSET


Dial = Callable[[], Awaitable[PlacedCall]]
"""Call it only once: each time somebody's phone rings.

Raises what VapiClient.create_call and KestraClient.create_execution do.
"""


class Dialer:
    """Turns call requests into calls. ``store`` gets VAPI's answer before the caller does; it must not raise."""

    def __init__(
        self,
        settings: Settings,
        vapi: VapiClient | None,
        kestra: KestraClient | None,
        store: Callable[[CallChange], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._vapi = vapi
        self._kestra = kestra
        self._store = store

    def prepare(self, request: CallRequest, method: Method) -> Dial:
        """Check the request and prepare the dial, without any effect yet.

        Raises:
            InvalidRequestError: we may not dial the number.
            NotConfiguredError: a variable that this method needs is not set.
        """
        prefixes = self._settings.call_allowed_prefixes
        if prefixes and not request.provider_phone.startswith(prefixes):
            detail = Detail("$.providerPhone", "must begin with one of CALL_ALLOWED_PREFIXES")
            raise InvalidRequestError("This number may not be dialled", details=(detail,))
        if method == "kestra":
            return partial(self._start_flow, _configured("KESTRA_URL", self._kestra), request)
        vapi = _configured("VAPI_API_KEY", self._vapi)
        stated = {
            "phoneNumberId": _configured("VAPI_PHONE_NUMBER_ID", self._settings.vapi_phone_number_id),
            "customer": {"number": request.provider_phone, "name": request.provider_name[:MAX_CUSTOMER_NAME_LENGTH]},
            "metadata": metadata_of(request),
        }
        assistant = create_assistant_config(request, self._settings)
        return partial(self._call, vapi, assistant, stated)

    async def _call(self, vapi: VapiClient, assistant: dict[str, Any], stated: dict[str, Any]) -> PlacedCall:
        answer = await vapi.create_call({"assistant": assistant, **stated})
        try:
            change = self._change_of(answer, stated)
        except InvalidMessageError as exc:
            raise UpstreamError("VAPI's answer cannot be read", is_outcome_unknown=True) from exc
        await self._store(change)
        return PlacedCall(change.call_id.decode(), status_at(change.status) or QUEUED, "vapi")

    def _change_of(self, answer: bytes, stated: dict[str, Any]) -> CallChange:
        """VAPI's answer, completed by our request: not every answer repeats the request or has a status."""
        change = change_of_api_call(answer, expects_analysis=self._settings.expect_analysis)
        ours = msgspec.json.encode({"id": change.call_id.decode(), "status": QUEUED, **stated})
        asked = change_of_api_call(ours, expects_analysis=self._settings.expect_analysis)
        facts = msgspec.structs.replace(asked.facts, **change.facts.known())
        if not change.status:
            change = msgspec.structs.replace(change, rank=asked.rank, status=asked.status)
        return msgspec.structs.replace(change, facts=facts, token=new_token())

    async def _start_flow(self, kestra: KestraClient, request: CallRequest) -> PlacedCall:
        # Check Kestra first: once a POST hangs, nobody knows whether the flow was started.
        await kestra.verify_present()
        ids = {"service_request_id": request.service_request_id, "provider_id": request.provider_id}
        labels = {name: text for name, text in ids.items() if text is not None}
        inputs = {"request": msgspec.json.encode(request).decode()}
        execution = await kestra.create_execution(inputs, labels=labels)
        return PlacedCall(None, QUEUED, "kestra", execution.id)


def _configured(variable: str, value: _Value | None) -> _Value:
    if value is None:
        raise NotConfiguredError(f"{variable} must be set to place calls this way")
    return value
