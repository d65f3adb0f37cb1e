"""Asks VAPI whether our key is good, and what its assistants and our phone number are set to. Only reads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final

from service.cli.doctor.checking import SHARE_OF_DEADLINE, Check
from service.cli.doctor.findings import Finding, error, ok, warning
from service.cli.doctor.vapi_hooks import PUSH, judge_hook, judge_messages, server_of
from service.config import Settings
from service.errors import NotFoundError, ServiceError
from service.vapi.assistant.config import ASSISTANT_NAME, create_saved_assistant_config, proof_headers_of
from service.vapi.assistant.diff import diff_of
from service.vapi.client import ASK_S, VapiClient

DIFF: Final = "python -m service assistant diff"

Assistants = list[dict[str, Any]]


class VapiAccount:
    def __init__(self, settings: Settings, within_s: float) -> None:
        self._settings = settings
        self._within_s = within_s
        ask_s = min(ASK_S, within_s * SHARE_OF_DEADLINE)
        self._vapi = VapiClient(settings, ask_s=ask_s) if settings.vapi_api_key else None
        self._listed: asyncio.Task[Assistants] | None = None

    async def close(self) -> None:
        if self._vapi is not None:
            await self._vapi.close()

    @property
    def checks(self) -> list[Check]:
        if self._vapi is None:
            return [Check("key", self._find_none)]
        return [
            Check("key", self._find_key),
            Check("placed calls", self._find_placed),
            Check("assistant", self._find_assistant, extra_s=self._within_s),
            Check("number", self._find_number, extra_s=self._within_s),
        ]

    async def _find_none(self) -> list[Finding]:
        if self._settings.vapi_phone_number_id:
            found = "VAPI_PHONE_NUMBER_ID is set and VAPI_API_KEY is not: nothing is placed or asked for"
            return [warning("key", found, "set VAPI_API_KEY to a private key of the account")]
        return [ok("key", "VAPI_API_KEY is not set: nothing is placed, and lost webhooks are not asked for")]

    async def _list(self) -> Assistants:
        assert self._vapi is not None
        if self._listed is None:
            self._listed = asyncio.create_task(self._vapi.list_assistants(), name="doctor-vapi")
        return await asyncio.shield(self._listed)

    async def _find_key(self) -> list[Finding]:
        try:
            await self._list()
        except ServiceError as exc:
            return [error("key", str(exc), "until it works, nothing is placed, and lost webhooks are not asked for")]
        return [ok("key", "VAPI takes our key")]

    async def _find_placed(self) -> list[Finding]:
        """Calls that this service places bring their own assistant."""
        return list(judge_placed(self._settings))

    async def _find_assistant(self) -> list[Finding]:
        try:
            assistants = await self._list()
        except ServiceError:
            return []  # the check of the key says so
        saved = [each for each in assistants if each.get("name") == ASSISTANT_NAME]
        if not saved:
            return [ok("assistant", "none of ours is saved in VAPI; calls placed here bring their own")]
        if len(saved) > 1:
            ids = ", ".join(str(each.get("id")) for each in saved)
            found = f'VAPI has {len(saved)} assistants named "{ASSISTANT_NAME}": {ids}'
            return [error("assistant", found, "delete all but the one that is used")]
        return self._judge_saved(saved[0])

    def _judge_saved(self, assistant: dict[str, Any]) -> list[Finding]:
        findings = self._judge_assistant("assistant", assistant)
        if any(each.level != "ok" for each in findings):
            return findings
        ours, theirs = create_saved_assistant_config(self._settings), dict(assistant)
        for config in (ours, theirs):
            config.pop("server", None)  # was judged: the same can be said in several ways
        if diff_of(ours, theirs):
            return [warning("assistant", "differs from the one of this version", f"see {DIFF}, then {PUSH}")]
        return findings

    def _judge_assistant(self, name: str, assistant: dict[str, Any]) -> list[Finding]:
        messages = judge_messages(name, assistant)
        if server_of(assistant) is None:
            found = "has no server.url: VAPI uses the phone number's, or the organisation's"
            return [*messages, warning(name, found, f"set server in VAPI; the shipped assistant's: {PUSH}")]
        hook = judge_hook(name, assistant, self._settings)
        return [each for each in (*hook, *messages) if not (messages and each.level == "ok")]

    async def _find_number(self) -> list[Finding]:
        assert self._vapi is not None
        number_id = self._settings.vapi_phone_number_id
        try:
            assistants = {str(each.get("id")): each for each in await self._list()}
        except ServiceError:
            return []
        if number_id is None:
            return [ok("number", "VAPI_PHONE_NUMBER_ID is not set: no call is placed directly")]
        try:
            number = await self._vapi.get_phone_number(number_id)
        except NotFoundError:
            mend = "set VAPI_PHONE_NUMBER_ID to the id of a number, not to the number itself"
            return [error("number", "VAPI has no phone number of that id: every call is refused", mend)]
        findings = list(self._judge_number(number))
        answering = assistants.get(str(number.get("assistantId")))
        if answering is not None and answering.get("name") != ASSISTANT_NAME:
            findings += self._judge_assistant("number's assistant", answering)
        return findings

    def _judge_number(self, number: dict[str, Any]) -> Iterator[Finding]:
        status = number.get("status")
        if status not in (None, "active"):
            yield error("number", f"its status in VAPI is {status}", "see the number in VAPI's dashboard")
        elif server_of(number) is not None:
            yield from judge_hook("number", number, self._settings)
        elif self._settings.vapi_webhook_url is None:
            found = (
                "neither the number nor the calls placed here name a server: only the organisation's may get reports"
            )
            yield error("number", found, "set VAPI_WEBHOOK_URL, or the number's server.url in VAPI")
        else:
            yield ok("number", "is there; it names no server, the assistant's is used")


def judge_placed(settings: Settings) -> Iterator[Finding]:
    """What the assistant that we send along with a call makes VAPI do."""
    if settings.vapi_webhook_url is None:
        found = "VAPI_WEBHOOK_URL is not set: their assistant names no server, VAPI uses the number's"
        yield warning("placed calls", found, "set VAPI_WEBHOOK_URL to https://<your host>/api/v1/vapi/webhook")
    elif settings.vapi_webhook_secret and not proof_headers_of(settings):
        found = "VAPI_WEBHOOK_AUTH allows signatures only, which the assistant we send cannot ask for"
        mend = "allow secret or bearer, or use saved assistants with a credential"
        yield warning("placed calls", found, mend)
    else:
        yield ok("placed calls", "their assistant brings address, proof and backoffPlan")
