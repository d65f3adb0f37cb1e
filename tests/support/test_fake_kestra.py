"""The fake Kestra keeps what it is told, and refuses what Kestra refuses. Asked here with a plain HTTP client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest

from tests.support.eventually import PATIENCE_S, eventually
from tests.support.fake_kestra import FakeKestra, Style, is_label
from tests.support.kestra_execution import FakeExecution
from tests.support.multipart import Part, parts_of
from tests.support.traffic import open_client

EXECUTIONS = "/api/v1/main/executions"
FLOW = EXECUTIONS + "/ai_concierge/call_provider"
FILES = {"request": (None, "{}")}

A_SILENCE = httpx2.Timeout(PATIENCE_S, read=0.7)
"""For a request that is never answered: connecting and sending may take their time."""


@pytest.fixture(params=["v1", "v2"])
async def kestra(request: pytest.FixtureRequest) -> AsyncIterator[FakeKestra]:
    async with FakeKestra(request.param) as server:
        yield server


@pytest.fixture
async def http(kestra: FakeKestra) -> AsyncIterator[httpx2.AsyncClient]:
    async with open_client(base_url=kestra.url) as client:
        yield client


def resume_path(kestra: FakeKestra, execution_id: str) -> str:
    return f"{EXECUTIONS}/{execution_id}/" + ("resume" if kestra.style == "v1" else "actions/resume")


async def create(http: httpx2.AsyncClient, **options: object) -> str:
    answer = await http.post(FLOW, files=FILES)
    execution_id: str = answer.raise_for_status().json()["id"]
    return execution_id


async def test_it_creates_and_shows_executions(kestra: FakeKestra, http: httpx2.AsyncClient) -> None:
    answer = (await http.post(FLOW, files=FILES, params=[("labels", "a:1"), ("labels", "b:2:3")])).json()
    assert (answer["namespace"], answer["flowId"], answer["state"]["current"]) == (
        "ai_concierge",
        "call_provider",
        "CREATED",
    )
    assert answer["labels"] == [{"key": "a", "value": "1"}, {"key": "b", "value": "2:3"}]
    kestra.executions[answer["id"]].move("RUNNING")
    shown = (await http.get(f"{EXECUTIONS}/{answer['id']}")).json()
    assert [past["state"] for past in shown["state"]["histories"]] == ["CREATED", "RUNNING"]


@pytest.mark.parametrize("path", ["/other/call_provider", "/ai_concierge/other", "/ai_concierge/a/b/c"])
async def test_it_does_not_know_other_flows(http: httpx2.AsyncClient, path: str) -> None:
    assert (await http.post(EXECUTIONS + path, files=FILES)).status_code == 404


async def test_it_refuses_missing_inputs(http: httpx2.AsyncClient) -> None:
    assert (await http.post(FLOW, files={"other": (None, "{}")})).status_code == 422
    assert (await http.post(FLOW)).status_code == 422


async def test_it_takes_a_part_with_a_file_name_for_an_upload(kestra: FakeKestra, http: httpx2.AsyncClient) -> None:
    assert (await http.post(FLOW, files={"request": ("request.json", "{}")})).status_code == 422
    assert kestra.requests[-1].parts == (Part("request", "{}", "request.json", "application/json"),)


@pytest.mark.parametrize("body", [{"json": {}}, {"data": {"request": "{}"}}, {"content": b"{}"}])
async def test_it_takes_nothing_but_multipart(http: httpx2.AsyncClient, body: dict[str, object]) -> None:
    assert (await http.request("POST", FLOW, **body)).status_code == 415  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("label", "is_taken"),
    [("a:1", True), ("a:b:c", True), ("a: b", True), ("a:", False), ("a", False), (":1", False), ("a: ", False)],
)
def test_it_knows_what_a_label_is(label: str, *, is_taken: bool) -> None:
    assert is_label(label) is is_taken


async def test_it_refuses_labels_that_are_none(http: httpx2.AsyncClient) -> None:
    assert (await http.post(FLOW, files=FILES, params={"labels": "a:"})).status_code == 422


async def test_it_resumes_what_is_paused_and_nothing_else(kestra: FakeKestra, http: httpx2.AsyncClient) -> None:
    execution = kestra.executions[await create(http)]
    path = resume_path(kestra, execution.id)
    assert (await http.post(path)).status_code == 409
    execution.pause()
    assert (await http.post(path, files={"status": (None, "ended")})).is_success
    assert (execution.states[-3:], execution.resume_inputs) == (["PAUSED", "RESTARTED", "RUNNING"], {"status": "ended"})
    assert (await http.post(path)).status_code == 409
    assert (await http.post(resume_path(kestra, "nobody"))).status_code == 404
    assert execution.resumes == 1


async def test_each_version_knows_its_own_urls_only(kestra: FakeKestra, http: httpx2.AsyncClient) -> None:
    execution = kestra.executions[await create(http)]
    execution.pause()
    path = resume_path(kestra, execution.id)
    kestra.style = "v2" if kestra.style == "v1" else "v1"
    assert (await http.post(path)).status_code == 404
    assert not execution.resumes


@pytest.mark.parametrize(("style", "version"), [("v1", "1."), ("v2", "2.")])
async def test_it_tells_its_version(style: Style, version: str) -> None:
    async with FakeKestra(style) as kestra, open_client(base_url=kestra.url) as http:
        assert (await http.get("/api/v1/configs")).json()["version"].startswith(version)


async def test_outputs_are_where_the_version_has_them(kestra: FakeKestra, http: httpx2.AsyncClient) -> None:
    execution_id = await create(http)
    kestra.executions[execution_id].end(outputs={"a": 1})
    shown = (await http.get(f"{EXECUTIONS}/{execution_id}")).json().get("outputs")
    apart = await http.get(f"/api/v1/main/outputs/executions/{execution_id}")
    expected = ({"a": 1}, 404) if kestra.style == "v1" else (None, 200)
    assert (shown, apart.status_code) == expected


@pytest.mark.parametrize(
    ("proof", "headers"),
    [
        ({"username": "u", "password": "p"}, {"authorization": "Basic dTpw"}),
        ({"token": "t"}, {"authorization": "Bearer t"}),
    ],
)
async def test_it_lets_in_who_proves_it(proof: dict[str, str], headers: dict[str, str]) -> None:
    async with FakeKestra(**proof) as kestra, open_client(base_url=kestra.url) as http:  # type: ignore[arg-type]
        statuses = [(await http.get("/api/v1/configs", headers=sent)).status_code for sent in ({}, headers)]
        assert statuses == [401, 200]


async def test_another_tenant_has_nothing_here(http: httpx2.AsyncClient) -> None:
    assert (await http.post(FLOW.replace("/main/", "/other/"), files=FILES)).status_code == 404


async def test_it_plays_the_flow(http: httpx2.AsyncClient, kestra: FakeKestra) -> None:
    async def play(execution: FakeExecution) -> None:
        execution.pause()
        await execution.until_resumed()
        execution.end(outputs={"done": True})

    kestra.play = play
    execution = kestra.executions[await create(http)]
    await execution.until("PAUSED")
    await http.post(resume_path(kestra, execution.id))
    await execution.until("SUCCESS")
    assert execution.outputs == {"done": True}


async def test_what_goes_wrong_in_a_played_flow_fails_the_test() -> None:
    played: list[str] = []

    async def play(execution: FakeExecution) -> None:
        played.append(execution.flow)
        raise LookupError(execution.flow)

    with pytest.raises(LookupError, match="call_provider"):
        async with FakeKestra(play=play) as kestra, open_client(base_url=kestra.url) as http:
            await create(http)
            await eventually(lambda: bool(played))


async def test_a_flow_still_playing_ends_with_the_fake() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def play(execution: FakeExecution) -> None:
        began.set()
        try:
            await execution.until_resumed(60)
        finally:
            ended.set()

    async with FakeKestra(play=play) as kestra, open_client(base_url=kestra.url) as http:
        await create(http)
        await eventually(began.is_set)
    assert ended.is_set()


async def test_it_refuses_hangs_and_cuts_when_told_to(kestra: FakeKestra, http: httpx2.AsyncClient) -> None:
    kestra.answer_next(503, {"message": "no"}, method="POST", retry_after="7", times=2)
    assert (await http.get("/api/v1/configs")).status_code == 200
    for _ in range(2):
        answer = await http.post(FLOW, files=FILES)
        assert (answer.status_code, answer.headers["retry-after"], answer.json()) == (503, "7", {"message": "no"})
    kestra.cut_next(path_part="call_provider", is_done=True)
    with pytest.raises(httpx2.RemoteProtocolError):
        await http.post(FLOW, files=FILES)
    kestra.hang_next()
    with pytest.raises(httpx2.ReadTimeout):
        await http.post(FLOW, files=FILES, timeout=A_SILENCE)
    assert len(kestra.executions) == 1


async def test_it_refuses_the_first_resumes_when_told_to(kestra: FakeKestra, http: httpx2.AsyncClient) -> None:
    execution = kestra.executions[await create(http)]
    execution.pause()
    kestra.refuse_resumes(2)
    statuses = [(await http.post(resume_path(kestra, execution.id))).status_code for _ in range(3)]
    assert (statuses[:2], execution.resumes) == ([409, 409], 1)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--b--"),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\n1\r\n"),
        ("multipart/form-data; boundary=b", b"junk"),
        ("multipart/form-data; boundary=b", b"junk\r\n--b--"),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Type: text/plain\r\n\r\n1\r\n--b--\r\n"),
    ],
)
def test_a_broken_multipart_body_is_not_read_somehow(content_type: str, body: bytes) -> None:
    with pytest.raises(ValueError, match="a "):
        parts_of(content_type, body)


def test_a_multipart_body_keeps_line_breaks_and_types() -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="a"\r\ncontent-type: text/x\r\n\r\n1\r\n\r\n--\r\n--b--'
    assert parts_of('multipart/form-data; boundary="b"', body) == (Part("a", "1\r\n\r\n--", None, "text/x"),)


def test_a_bug_in_the_fake_fails_the_test() -> None:
    kestra = FakeKestra().start()
    with httpx2.Client(verify=False) as http, pytest.raises(httpx2.RemoteProtocolError):
        http.post(kestra.url + FLOW, content=b"junk", headers={"content-type": "multipart/form-data; boundary=b"})
    with pytest.raises(ValueError, match="does not begin"):
        kestra.stop()


async def test_it_shows_its_flows_and_runs_none_that_is_disabled(kestra: FakeKestra, http: httpx2.AsyncClient) -> None:
    kestra.put_flow("ai_concierge", "call_provider", labels={"a": "1"}, disabled=True)
    shown = (await http.get("/api/v1/main/flows/ai_concierge/call_provider")).json()
    assert (shown["id"], shown["disabled"], shown["labels"]) == ("call_provider", True, [{"key": "a", "value": "1"}])
    assert (await http.get("/api/v1/main/flows/ai_concierge/nobodys")).status_code == 404
    assert (await http.post(FLOW, files=FILES)).status_code == 409
