"""A slash too many, at the end of a path or at its start, changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.support.raw_http import ask, get, post
from tests.support.replica import Replica
from tests.support.service_api import new_call_id
from tests.support.traffic import open_client
from tests.support.vapi_sender import full_report

PREFIX = b"/api/v1/vapi"


async def test_a_slash_too_many_changes_nothing(start_replica: Callable[..., Replica]) -> None:
    replica = start_replica(vapi_webhook_secret="s", api_read_tokens="reader")
    call_id = new_call_id()
    body = json.dumps(full_report(call_id)).encode()
    for target in (b"/webhook", b"/webhook/", b"/webhooks/vapi/", b"/webhooks/vapi//"):
        for start in (b"", b"/", b"//"):
            answer = await ask(replica.port, post(body, b"X-Vapi-Secret: s", target=start + PREFIX + target))
            assert (answer.status, answer.json()["callId"]) == (200, call_id), (start, target)
    bearer = b"Authorization: Bearer reader"
    poll = PREFIX + b"/calls/" + call_id.encode()
    for target in (poll + b"/", b"/" + poll, b"//" + poll + b"/?view=summary", poll + b"/?wait=0"):
        answer = await ask(replica.port, get(target, bearer))
        assert (answer.status, answer.json()["data"]["call_id"]) == (200, call_id), target
    assert (await ask(replica.port, get(b"/" + poll + b"/"))).status == 401
    assert (await ask(replica.port, get(b"//health/ready/"))).status == 200
    assert (await ask(replica.port, get(PREFIX + b"/calls//", bearer))).status in {404, 405}


async def test_a_slash_too_many_is_not_in_the_logs_route(start_replica: Callable[..., Replica]) -> None:
    replica = start_replica(vapi_webhook_secret="s", api_read_tokens="reader")
    async with open_client(base_url=replica.url) as client:
        await client.get("/api/v1/vapi/calls/call-1/", headers={"Authorization": "Bearer reader"})
    replica.stop()
    assert '"route":"/api/v1/vapi/calls/{call_id}"' in replica.log
