"""``POST /calls``: who may phone, what is refused, and what an ``Idempotency-Key`` promises."""

from __future__ import annotations

from collections.abc import Callable

import httpx2
import pytest

from tests.support.call_requests import REQUIRED, calls_to, new_request
from tests.support.eventually import eventually
from tests.support.fake_vapi import FakeVapi
from tests.support.replica import Replica
from tests.support.routes import BATCH, PLACE
from tests.support.service_api import ADMIN, READER, connected, metric, record_of, stats_of


async def test_a_placed_call_is_202_and_its_record_is_there(vapi: FakeVapi, dialler: httpx2.AsyncClient) -> None:
    request = new_request(unknown=["is ignored"])
    answer = await dialler.post(PLACE, json=request)
    [call_id] = calls_to(vapi, request["providerPhone"])
    placed = {"call_id": call_id, "status": "queued", "method": "vapi"}
    assert (answer.status_code, answer.json()) == (202, {"success": True, "data": placed})
    record = await record_of(dialler, call_id)
    assert (record["status"], record["provider_name"]) == ("queued", REQUIRED["providerName"])


@pytest.mark.parametrize("path", [PLACE, BATCH])
@pytest.mark.parametrize(("headers", "status"), [({}, 401), (READER, 403), ({"Authorization": "Bearer x"}, 401)])
async def test_only_an_admin_may_phone(
    vapi: FakeVapi, dialling_replica: Replica, path: str, headers: dict[str, str], status: int
) -> None:
    request = new_request()
    async with connected(dialling_replica, **headers) as client:
        answer = await client.post(path, json={**request, "requests": [request]})
    assert (answer.status_code, answer.json()["success"]) == (status, False)
    assert calls_to(vapi, request["providerPhone"]) == []


@pytest.mark.parametrize("path", [PLACE, BATCH])
async def test_where_nothing_is_set_nobody_may_phone(client: httpx2.AsyncClient, path: str) -> None:
    answer = await client.post(path, json=new_request(), headers=ADMIN)
    assert answer.status_code == 403
    assert "API_ADMIN_TOKENS" in answer.json()["error"]


async def test_where_only_the_admins_token_is_set_it_is_enough(
    vapi: FakeVapi, start_replica: Callable[..., Replica]
) -> None:
    request = new_request(method=None)
    async with connected(start_replica(api_admin_tokens="t", **vapi.settings), Authorization="Bearer t") as client:
        assert (await client.post(PLACE, json=request)).status_code == 202


async def test_all_that_is_wrong_with_a_request_is_named_without_a_value(dialler: httpx2.AsyncClient) -> None:
    request = {"providerPhone": "secret-number", "urgency": "secret-urgency", "method": "secret-method"}
    answer = await dialler.post(PLACE, json=request)
    assert answer.status_code == 400
    wrong = {detail["path"] for detail in answer.json()["details"]}
    assert wrong == {"$.method", *(f"$.{name}" for name in REQUIRED)}
    assert "secret" not in answer.text


@pytest.mark.parametrize("method", ["", "VAPI", 5, True, ["vapi"], {}])
async def test_a_method_that_is_none_is_400(vapi: FakeVapi, dialler: httpx2.AsyncClient, method: object) -> None:
    request = new_request(method=method)
    answer = await dialler.post(PLACE, json=request)
    assert (answer.status_code, [detail["path"] for detail in answer.json()["details"]]) == (400, ["$.method"])
    assert calls_to(vapi, request["providerPhone"]) == []


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1]", b'"x"', b"null", b'{"a":NaN}', b"\xff", b"[" * 5000, b'{"a":"\\ud83d"}'], ids=repr
)
@pytest.mark.parametrize("path", [PLACE, BATCH])
async def test_a_body_that_is_no_request_is_400(dialler: httpx2.AsyncClient, path: str, body: bytes) -> None:
    answer = await dialler.post(path, content=body)
    assert (answer.status_code, answer.json()["success"]) == (400, False)


async def test_a_body_over_the_limit_is_413(dialler: httpx2.AsyncClient) -> None:
    assert (await dialler.post(PLACE, content=b" " * 11_000_000)).status_code == 413


async def test_a_way_that_is_not_set_up_is_501_and_names_the_variable(dialler: httpx2.AsyncClient) -> None:
    answer = await dialler.post(PLACE, json=new_request(method="kestra"))
    assert (answer.status_code, "KESTRA_URL" in answer.json()["error"]) == (501, True)


@pytest.mark.parametrize("status", [400, 402, 429])
async def test_vapis_refusal_is_passed_on_with_its_words(
    vapi: FakeVapi, dialler: httpx2.AsyncClient, status: int
) -> None:
    vapi.refuse_next(status, "Not today.", headers={"Retry-After": "7"})
    answer = await dialler.post(PLACE, json=new_request())
    assert (answer.status_code, "Not today." in answer.json()["error"]) == (status, True)
    assert answer.headers.get("retry-after") == ("7" if status == 429 else None)


async def test_vapis_trouble_is_502_and_asks_nobody_to_repeat(vapi: FakeVapi, dialler: httpx2.AsyncClient) -> None:
    vapi.break_next()
    answer = await dialler.post(PLACE, json=new_request())
    assert (answer.status_code, "retry-after" in answer.headers) == (502, False)


async def test_the_same_key_and_request_get_the_same_answer_however_it_is_written(
    vapi: FakeVapi, dialler: httpx2.AsyncClient
) -> None:
    request = new_request()
    written = [request, dict(reversed(request.items())), {**request, "method": "vapi"}, {**request, "unknown": 1}]
    key = {"Idempotency-Key": f"same-{request['providerPhone']}"}
    answers = [await dialler.post(PLACE, json=body, headers=key) for body in written]
    assert [(answer.status_code, answer.json()) for answer in answers] == [(202, answers[0].json())] * 4
    assert len(calls_to(vapi, request["providerPhone"])) == 1


async def test_the_same_key_with_another_request_is_422(dialler: httpx2.AsyncClient) -> None:
    key = {"Idempotency-Key": f"other-{new_request()['providerPhone']}"}
    await dialler.post(PLACE, json=new_request(), headers=key)
    assert (await dialler.post(PLACE, json=new_request(), headers=key)).status_code == 422


async def test_a_key_whose_outcome_nobody_knows_is_409(vapi: FakeVapi, dialler: httpx2.AsyncClient) -> None:
    request = new_request()
    key = {"Idempotency-Key": f"unknown-{request['providerPhone']}"}
    vapi.break_next()
    answers = [await dialler.post(PLACE, json=request, headers=key) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [502, 409]
    assert len(calls_to(vapi, request["providerPhone"])) == 1


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "é", "a\tb"])
@pytest.mark.parametrize("path", [PLACE, BATCH])
async def test_a_key_that_is_none_is_400(dialler: httpx2.AsyncClient, path: str, key: str) -> None:
    answer = await dialler.post(path, json=new_request(), headers={b"Idempotency-Key": key.encode()})
    assert answer.status_code == 400
    assert [detail["path"] for detail in answer.json()["details"]] == ["Idempotency-Key"]


@pytest.mark.parametrize("length", [1, 255])
async def test_a_key_may_have_any_visible_characters(dialler: httpx2.AsyncClient, length: int) -> None:
    key = ('"~!{}:/' * 40 + new_request()["providerPhone"])[-length:]
    answer = await dialler.post(PLACE, json=new_request(), headers={"Idempotency-Key": key})
    assert answer.status_code == 202


async def test_calls_count_by_method_and_result(dialler: httpx2.AsyncClient) -> None:
    samples = [
        'vapi_calls_placed_total{method="vapi",result="placed"}',
        'vapi_calls_placed_total{method="kestra",result="failed"}',
    ]
    before = [await metric(dialler, sample) for sample in samples]
    await dialler.post(PLACE, json=new_request())
    await dialler.post(PLACE, json=new_request(method="kestra"))
    assert [await metric(dialler, sample) for sample in samples] == [count + 1 for count in before]


async def test_the_stats_count_placed_calls_by_result(dialler: httpx2.AsyncClient) -> None:
    before = (await stats_of(dialler))["placed"]
    key = {"Idempotency-Key": "counted-in-the-stats"}
    request = new_request()
    for _ in range(2):
        assert (await dialler.post(PLACE, json=request, headers=key)).status_code == 202

    async def is_counted() -> bool:
        placed = (await stats_of(dialler))["placed"]
        return bool(placed["placed"] > before["placed"] and placed["repeated"] > before["repeated"])

    await eventually(is_counted)


async def test_the_log_says_who_was_phoned_without_the_whole_number(
    dialler: httpx2.AsyncClient, dialling_replica: Replica
) -> None:
    request = new_request(problemDescription="a private matter")
    await dialler.post(PLACE, json=request)
    number = request["providerPhone"]

    async def is_logged() -> bool:
        return f"{number[:5]}***{number[-4:]}" in dialling_replica.log

    await eventually(is_logged)
    assert number not in dialling_replica.log
    assert "a private matter" not in dialling_replica.log
