"""Which version of Kestra it is: found out, remembered, found out again after trouble, or set."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from service.kestra.client import KestraClient, Resumption
from tests.support.fake_kestra import FakeKestra, Style
from tests.support.kestra_talk import connected, refusal_of, until_said

CONFIGS = "/api/v1/configs"


@pytest.fixture
async def kestra() -> AsyncIterator[FakeKestra]:
    async with FakeKestra("v1") as server:
        yield server


@pytest.fixture
async def client(kestra: FakeKestra) -> AsyncIterator[KestraClient]:
    async with connected(kestra) as client:
        yield client


async def paused(kestra: FakeKestra, client: KestraClient) -> str:
    execution_id = (await client.create_execution({"request": "{}"}, labels={})).id
    kestra.executions[execution_id].pause()
    return execution_id


def asked(kestra: FakeKestra, path_part: str) -> int:
    return sum(path_part in request.path for request in kestra.requests)


async def test_the_version_is_asked_for_once(kestra: FakeKestra, client: KestraClient) -> None:
    for _ in range(3):
        assert await client.resume(await paused(kestra, client)) is Resumption.RESUMED
    assert asked(kestra, CONFIGS) == 1


@pytest.mark.parametrize(
    ("version", "style"),
    [
        ("1.3.44", "v1"),
        ("v1.0.0", "v1"),
        ("0.23.1", "v1"),
        ("2.1.0-rc1", "v2"),
        ("2.0.0-SNAPSHOT", "v2"),
        ("10.2", "v2"),
    ],
)
async def test_versions_before_2_have_the_old_urls(
    kestra: FakeKestra, client: KestraClient, version: str, style: Style
) -> None:
    kestra.style, kestra.version = style, version
    assert await client.resume(await paused(kestra, client)) is Resumption.RESUMED


@pytest.mark.parametrize("style", ["v1", "v2"])
async def test_a_style_that_is_set_is_not_asked_for(kestra: FakeKestra, style: Style) -> None:
    kestra.style = style
    async with connected(kestra, kestra_api_style=style) as client:
        assert await client.resume(await paused(kestra, client)) is Resumption.RESUMED
    assert asked(kestra, CONFIGS) == 0


@pytest.mark.parametrize(("before", "after"), [("v1", "v2"), ("v2", "v1")])
async def test_another_version_of_kestra_is_noticed(
    kestra: FakeKestra, client: KestraClient, before: Style, after: Style
) -> None:
    kestra.style = before
    await client.resume(await paused(kestra, client))
    kestra.style = after
    execution_id = await paused(kestra, client)
    assert await client.resume(execution_id) is Resumption.RESUMED
    assert kestra.executions[execution_id].resumes == 1


async def test_a_wrong_setting_is_trouble_and_not_an_unknown_execution(kestra: FakeKestra) -> None:
    async with connected(kestra, kestra_api_style="v2") as client:
        execution_id = await paused(kestra, client)
        assert "KESTRA_API_STYLE" in await refusal_of(client.resume(execution_id))
    assert not kestra.executions[execution_id].resumes


async def test_after_trouble_the_version_is_asked_for_again(kestra: FakeKestra, client: KestraClient) -> None:
    execution_id = await paused(kestra, client)
    kestra.answer_next(503, method="POST")
    await refusal_of(client.resume(execution_id))
    assert await client.resume(execution_id) is Resumption.RESUMED
    assert asked(kestra, CONFIGS) == 2


@pytest.mark.parametrize(
    ("status", "body"), [(200, {"version": "develop"}), (200, {}), (200, b"<html>"), (404, None), (500, None)]
)
async def test_without_a_version_nothing_is_guessed(
    kestra: FakeKestra, client: KestraClient, status: int, body: object
) -> None:
    execution_id = await paused(kestra, client)
    kestra.answer_next(status, body, path_part=CONFIGS)
    await refusal_of(client.resume(execution_id))
    assert asked(kestra, "resume") == 0
    assert await client.resume(execution_id) is Resumption.RESUMED


async def test_what_the_version_does_not_tell_can_be_set(kestra: FakeKestra, client: KestraClient) -> None:
    kestra.version = "develop"
    assert "set KESTRA_API_STYLE" in await refusal_of(client.resume("x"))
    await until_said(client, "set KESTRA_API_STYLE")
    async with connected(kestra, kestra_api_style="v1") as told:
        assert await told.resume(await paused(kestra, told)) is Resumption.RESUMED
        await until_said(told, None)


async def test_what_is_not_kestra_is_not_healthy(kestra: FakeKestra) -> None:
    kestra.answer_next(404, b"<html>")
    async with connected(kestra, kestra_api_style="v1") as client:
        assert await client.find_problem() is not None
