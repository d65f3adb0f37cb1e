"""One house for a flow to run in: an engine, two replicas on one Redis, a fake VAPI, and our own Kestra client."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import httpx2

from service.config import Settings
from service.kestra.client import KestraClient
from service.kestra.execution import Execution
from service.load_config import load_settings
from tests.kestra_engine.engine import ACCOUNT, FLOWS, Engine
from tests.support.callback_receiver import SECRET as CALLBACK_SECRET
from tests.support.fake_vapi import FakeVapi
from tests.support.fake_vapi_calls import Talk
from tests.support.fake_vapi_webhooks import Plan
from tests.support.replica import Replica

TOKEN = "an-admin-token"
WEBHOOK_SECRET = "a-webhook-secret"
CALLBACK_KEY = "a-key-of-the-tests-that-is-long"
WEBHOOK_TRIGGERS = "/api/v1/main/executions/webhook/"
WAIT_S = 60.0
LOOKS_AT_LOG = 25


def settings_of(engine: Engine, vapi: FakeVapi) -> dict[str, str]:
    """What the replicas need beside their Redis."""
    return {
        "API_ADMIN_TOKENS": TOKEN,
        "VAPI_WEBHOOK_SECRET": WEBHOOK_SECRET,
        "VAPI_WEBHOOK_URL": "http://127.0.0.1:9/never-used",
        "KESTRA_URL": engine.url,
        "KESTRA_USERNAME": ACCOUNT[0],
        "KESTRA_PASSWORD": ACCOUNT[1],
        "CALLBACK_ALLOWED_PREFIXES": engine.url + WEBHOOK_TRIGGERS,
        "CALLBACK_SECRET": CALLBACK_SECRET,
        **vapi.settings,
    }


@dataclass
class Played:
    """What was seen of the calls that were placed."""

    most_at_once: int = 0


class House:
    """Starts flows against replica ``a``; webhooks go to either."""

    def __init__(
        self, engine: Engine, vapi: FakeVapi, build_replica: Callable[..., Replica], settings: Settings
    ) -> None:
        self.engine = engine
        self.vapi = vapi
        self.build_replica = build_replica
        self.a = build_replica()
        self.b = build_replica()
        self.kestra = KestraClient(settings)
        self.service_url = self.a.url
        self.http = engine.connect()

    async def close(self) -> None:
        await self.kestra.close()
        await self.http.aclose()

    async def start(self, flow: str, **inputs: object) -> str:
        """An execution's id; inputs that are no strings go as JSON."""
        texts = {name: each if isinstance(each, str) else json.dumps(each) for name, each in inputs.items()}
        labels = {"flow": flow}
        execution = await self.kestra.create_execution(
            {"service_url": self.service_url, **texts}, labels=labels, flow=flow
        )
        return execution.id

    async def wait_until(self, execution_id: str, is_so: Callable[[Execution], bool], within_s: float = WAIT_S) -> str:
        """The state in which it is so. The engine may not know an execution yet that it has just created."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            execution = await self.kestra.find_execution(execution_id)
            if execution is not None and is_so(execution):
                return execution.state
            await asyncio.sleep(0.1)
        raise TimeoutError(f"{execution} after {within_s} s: {await self.problems(execution_id)}")

    async def end(self, execution_id: str, within_s: float = WAIT_S) -> str:
        """Its last state."""
        return await self.wait_until(execution_id, lambda execution: execution.is_terminal, within_s)

    async def outputs(self, execution_id: str) -> dict[str, Any]:
        """Those of the flow by name; 2.x has a route for them."""
        execution: dict[str, Any] = (await self.http.get(f"/api/v1/main/executions/{execution_id}")).json()
        if "outputs" not in execution:
            return dict((await self.http.get(f"/api/v1/main/outputs/executions/{execution_id}")).json())
        return dict(execution["outputs"])

    async def log_with(self, execution_id: str, sentence: str) -> str:
        """What its tasks warned of, with that sentence if it comes: the engine writes its log a little later."""
        for _ in range(LOOKS_AT_LOG):
            if sentence in await self.problems(execution_id):
                break
            await asyncio.sleep(0.2)
        return await self.problems(execution_id)

    async def problems(self, execution_id: str) -> str:
        """What its tasks warned of so far, one message per line."""
        entries = (await self.http.get(f"/api/v1/main/logs/{execution_id}")).json()
        return "\n".join(entry["message"] or "" for entry in entries)

    async def times_of(self, execution_id: str) -> tuple[datetime, datetime]:
        """When the task that read the record ended, and when the execution did; the engine's own clock, ours too."""
        execution = (await self.http.get(f"/api/v1/main/executions/{execution_id}")).json()
        ask = next(run for run in execution["taskRunList"] if run["taskId"] == "ask")
        return _last_change(ask), _last_change(execution)

    async def add_flow(self, name: str, source: str) -> None:
        """One of the shipped flows, changed for a test, under a name of its own."""
        await self.http.post("/api/v1/main/flows", content=source.encode())
        answer = await self.http.get(f"/api/v1/main/flows/ai_concierge/{name}")
        assert answer.status_code == 200, self.engine.log[-2000:]

    @asynccontextmanager
    async def playing(self, plan: Plan, of: Callable[[dict[str, Any]], Talk] | None = None) -> AsyncIterator[Played]:
        """Every call that is placed meanwhile goes as planned; ``of`` says of each what comes of it."""
        played = Played()
        watching = asyncio.create_task(self._play_new_calls(plan, of, played))
        try:
            yield played
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _play_new_calls(self, plan: Plan, of: Callable[[dict[str, Any]], Talk] | None, played: Played) -> None:
        seen = set(self.vapi.calls)
        async with asyncio.TaskGroup() as courses:
            while True:
                for call_id in self.vapi.calls.keys() - seen:
                    seen.add(call_id)
                    own = plan if of is None else replace(plan, talk=of(self.vapi.calls[call_id]))
                    courses.create_task(self.run_call(call_id, own))
                under_way = sum(call["status"] != "ended" for call in self.vapi.calls.values())
                played.most_at_once = max(played.most_at_once, under_way)
                await asyncio.sleep(0.02)

    async def run_call(self, call_id: str, plan: Plan | None = None) -> None:
        """The call goes as planned; its messages reach both replicas by chance."""
        await self.vapi.run_call(call_id, to=[self.a.url, self.b.url], plan=plan)

    def add_call(self) -> str:
        """A call that somebody placed with an assistant that proves its webhooks."""
        return self.vapi.add_call(assistant={"server": {"url": "unused", "secret": WEBHOOK_SECRET}})

    async def place(self, replica: Replica, request: dict[str, Any]) -> dict[str, Any]:
        """``POST /calls`` as another service would."""
        async with httpx2.AsyncClient(timeout=20, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
            answer = await client.post(replica.url + "/api/v1/vapi/calls", json=request)
        assert answer.status_code == 202, answer.text
        placed: dict[str, Any] = answer.json()["data"]
        return placed

    async def subscribe(self, call_id: str, flow: str, key: str) -> None:
        """Have the call's record sent to the flow's webhook trigger."""
        body = {"kind": "callback", "url": f"{self.engine.url}{WEBHOOK_TRIGGERS}ai_concierge/{flow}/{key}"}
        async with httpx2.AsyncClient(timeout=20, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
            answer = await client.post(f"{self.b.url}/api/v1/vapi/calls/{call_id}/subscriptions", json=body)
        assert answer.status_code == 202, answer.text

    async def find_started(self, flow: str, call_id: str) -> list[str]:
        """The ids of the flow's executions whose trigger got something about the call."""
        query = {"namespace": "ai_concierge", "flowId": flow}
        answer = await self.http.get("/api/v1/main/executions/search", params=query)
        return [one["id"] for one in answer.json()["results"] if call_id in json.dumps(one["trigger"])]

    async def send(self, body: dict[str, Any], to: Replica | None = None) -> None:
        """A webhook that no call of the fake VAPI is behind."""
        async with httpx2.AsyncClient(timeout=20, headers={"X-Vapi-Secret": WEBHOOK_SECRET}) as client:
            answer = await client.post((to or self.b).url + "/api/v1/vapi/webhook", json=body)
        assert answer.status_code == 200, answer.text


def client_settings(engine: Engine) -> Settings:
    """Ours, as the service would have them; the style is detected."""
    return load_settings(
        {"KESTRA_URL": engine.url, "KESTRA_USERNAME": ACCOUNT[0], "KESTRA_PASSWORD": ACCOUNT[1]},
    )


def shipped(name: str) -> str:
    return (FLOWS / f"{name}.yaml").read_text()


def changed(name: str, new_name: str, *replacements: tuple[str, str]) -> str:
    """A shipped flow under another name, with some of its text replaced."""
    source = shipped(name).replace(f"id: {name}\n", f"id: {new_name}\n", 1)
    for old, new in replacements:
        assert old in source
        source = source.replace(old, new)
    return source


def _last_change(run: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(run["state"]["histories"][-1]["date"])
