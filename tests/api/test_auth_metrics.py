"""Failed proofs and tokens are counted by their reason, which is that of the log."""

from __future__ import annotations

import ast
import re

import httpx2

from service.metrics.declared import AUTH_FAILURES
from tests.support.replica import ROOT
from tests.support.routes import CALLS, WEBHOOK
from tests.support.service_api import READER, metric


async def test_each_failed_proof_and_token_counts_by_its_reason(stranger: httpx2.AsyncClient) -> None:
    async def failures(reason: str) -> float:
        return await metric(stranger, f'vapi_auth_failures_total{{reason="{reason}"}}', **READER)

    tried = {
        "no proof header": ("POST", WEBHOOK, {}),
        "no secret fits": ("POST", WEBHOOK, {"X-Vapi-Secret": "wrong"}),
        "signature is malformed": ("POST", WEBHOOK, {"X-Vapi-Signature": "x"}),
        "signature does not match the body": ("POST", WEBHOOK, {"X-Vapi-Signature": "0" * 64}),
        "timestamp is more than 5 minutes off": ("POST", WEBHOOK, {"X-Signature": "0" * 64, "X-Timestamp": "1"}),
        "no token": ("GET", CALLS + "one", {}),
        "unknown token": ("GET", CALLS + "one", {"Authorization": "Bearer wrong"}),
        "no admin token": ("DELETE", CALLS + "one", READER),
    }
    for reason, (method, path, headers) in tried.items():
        before = await failures(reason)
        answer = await stranger.request(method, path, json={}, headers=headers)
        assert answer.status_code in {401, 403}
        assert await failures(reason) == before + 1, reason


async def test_failures_count_on_where_the_address_is_limited(stranger: httpx2.AsyncClient) -> None:
    sample = 'vapi_auth_failures_total{reason="no secret fits"}'
    before = await metric(stranger, sample, **READER)
    answers = [await stranger.post(WEBHOOK, json={}, headers={"X-Vapi-Secret": "wrong"}) for _ in range(35)]
    assert [answer.status_code for answer in answers] == [401] * 30 + [429] * 5
    assert await metric(stranger, sample, **READER) == before + 35


def test_every_reason_for_which_a_webhook_is_refused_is_a_label_of_its_own() -> None:
    source = (ROOT / "service/vapi/authentication.py").read_text()
    texts = {node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)}
    raised = {text for text in texts if isinstance(text, str) and re.search(r"^(signature|timestamp|no) ", text)}
    assert raised == {reason for reason in AUTH_FAILURES if "token" not in reason}
