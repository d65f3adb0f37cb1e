"""Our client sends what Kestra's official client of each version sends, and that one understands what the fake answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from service.kestra.client import KestraClient, Resumption
from service.kestra.flows import REVISION_LABEL, Flow
from tests.support.fake_kestra import FakeKestra, Style
from tests.support.kestra_server import Request
from tests.support.kestra_talk import PASSWORD, connected
from tests.support.kestrapy import Kestrapy

USERNAME = "ops@example.com"
INPUTS = {"request": '{"providerName": "Zoë \\"Z\\" O\'Hara\\r\\n", "n": 5}', "service_url": "http://vapi-cache:8000"}
LABELS = {"requestId": "a:b c&d/é", "source": "vapi-cache"}


@pytest.fixture(scope="module", params=["v1", "v2"])
def style(request: pytest.FixtureRequest) -> Style:
    style: Style = request.param
    return style


@pytest.fixture(scope="module")
def kestra(style: Style) -> Iterator[FakeKestra]:
    """One Kestra for both clients."""
    server = FakeKestra(style, username=USERNAME, password=PASSWORD).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def official(kestra: FakeKestra, style: Style) -> Iterator[Kestrapy]:
    with Kestrapy(style, kestra.url, USERNAME, PASSWORD) as client:
        yield client


@pytest.fixture
async def ours(kestra: FakeKestra, style: Style) -> AsyncIterator[KestraClient]:
    async with connected(kestra, kestra_api_style=style) as client:
        yield client


def sent(kestra: FakeKestra, execution_id: str = "-") -> list[Request]:
    """What was sent since the last look, the execution's own id left out."""
    requests = [request._replace(path=request.path.replace(execution_id, "<id>")) for request in kestra.requests]
    kestra.requests.clear()
    return requests


def created(official: Kestrapy, kestra: FakeKestra) -> str:
    labels = [f"{key}:{value}" for key, value in LABELS.items()]
    answer = official.do(
        "executions", "create_execution", "main", "ai_concierge", "call_provider", labels=labels, inputs=INPUTS
    )
    execution = kestra.executions[answer["result"]["id"]]
    assert (execution.inputs, execution.labels) == (INPUTS, LABELS)
    return execution.id


async def test_creating_with_inputs_and_labels(kestra: FakeKestra, official: Kestrapy, ours: KestraClient) -> None:
    execution_id = created(official, kestra)
    expected = sent(kestra)
    execution = await ours.create_execution(INPUTS, labels=LABELS)
    assert sent(kestra) == expected
    assert kestra.executions[execution.id].inputs == kestra.executions[execution_id].inputs


async def test_creating_without_inputs(kestra: FakeKestra, official: Kestrapy, ours: KestraClient) -> None:
    answer = official.do("executions", "create_execution", "main", "ai_concierge", "without_inputs")
    expected = sent(kestra)
    assert answer["result"]["id"] in kestra.executions
    await ours.create_execution({}, labels={}, flow="without_inputs")
    assert sent(kestra) == expected


async def test_looking_at_an_execution(kestra: FakeKestra, official: Kestrapy, ours: KestraClient) -> None:
    execution_id = created(official, kestra)
    kestra.executions[execution_id].pause()
    sent(kestra)
    answer = official.do("executions", "execution", execution_id, "main")["result"]
    expected = sent(kestra, execution_id)
    execution = await ours.find_execution(execution_id)
    assert sent(kestra, execution_id) == expected
    assert execution is not None
    assert (answer["id"], answer["state"]["current"]) == (execution.id, execution.state) == (execution_id, "PAUSED")


async def test_resuming(kestra: FakeKestra, official: Kestrapy, ours: KestraClient) -> None:
    first, second = created(official, kestra), created(official, kestra)
    for execution_id in (first, second):
        kestra.executions[execution_id].pause()
    sent(kestra)
    assert "result" in official.do("executions", "resume_execution", first, "main")
    expected = sent(kestra, first)
    assert await ours.resume(second) is Resumption.RESUMED
    assert sent(kestra, second) == expected
    assert kestra.executions[first].states == kestra.executions[second].states


async def test_resuming_what_is_not_paused(kestra: FakeKestra, official: Kestrapy, ours: KestraClient) -> None:
    execution_id = created(official, kestra)
    assert official.do("executions", "resume_execution", execution_id, "main")["status"] == 409
    assert await ours.resume(execution_id) is Resumption.NOT_PAUSED_YET


async def test_asking_for_nobody(kestra: FakeKestra, official: Kestrapy, ours: KestraClient) -> None:
    assert official.do("executions", "execution", "nobody", "main")["status"] == 404
    assert await ours.find_execution("nobody") is None
    assert official.do("executions", "resume_execution", "nobody", "main")["status"] == 404
    assert await ours.resume("nobody") is Resumption.UNKNOWN_EXECUTION


async def test_reading_outputs(kestra: FakeKestra, official: Kestrapy, style: Style) -> None:
    """We read none, but the flows do, and the fake must have them where Kestra does."""
    execution_id = created(official, kestra)
    kestra.executions[execution_id].end(outputs={"call_id": "c-1"})
    if style == "v1":
        outputs = official.do("executions", "execution", execution_id, "main")["result"]["outputs"]
    else:
        outputs = official.do("outputs", "execution_outputs", execution_id, "main")["result"]
    assert outputs == {"call_id": "c-1"}


async def test_looking_at_a_flow(kestra: FakeKestra, official: Kestrapy, ours: KestraClient) -> None:
    kestra.put_flow("ai_concierge", "wait_loop", labels={REVISION_LABEL: "abc"})
    sent(kestra)
    shown = official.do(
        "flows", "flow", namespace="ai_concierge", id="wait_loop", tenant="main", source=False, allow_deleted=False
    )["result"]
    (expected,) = sent(kestra)
    assert [(label["key"], label["value"]) for label in shown["labels"]] == [(REVISION_LABEL, "abc")]
    assert await ours.find_flow("wait_loop") == Flow("abc", is_disabled=False)
    assert [request._replace(query=expected.query) for request in sent(kestra)] == [expected]
    assert await ours.find_flow("nobodys") is None


@pytest.mark.parametrize("style", ["v2"], indirect=True)
async def test_asking_for_the_version(kestra: FakeKestra, official: Kestrapy, ours: KestraClient) -> None:
    """kestrapy 1.3 has no such request."""
    sent(kestra)
    assert official.do("misc", "configuration")["result"]["version"] == "2.0.7"
    expected = sent(kestra)
    assert await ours.find_problem() is None
    assert sent(kestra) == expected
