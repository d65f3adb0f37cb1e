"""The OpenAPI document is valid, knows every route, and says of each answer what it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from service.api.openapi.webhook import webhook_operations
from service.app import create_app
from service.calls.call_record import CallRecord
from service.calls.facts import FACTS
from service.errors import ServiceError
from service.load_config import load_settings
from service.vapi.replies import _ANSWERS
from tests.support.described_api import DescribedAPI
from tests.support.replica import ROOT, Replica
from tests.support.routes import WEBHOOK
from tests.support.service_api import connected

NOT_IN_THE_RECORD = {"recording_enabled", "outputs_awaited"}


@pytest.fixture
async def described(client: httpx2.AsyncClient) -> DescribedAPI:
    return DescribedAPI((await client.get("/openapi.json")).json())


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for part in ("paths", "webhooks"):
        for path, methods in document[part].items():
            yield from ((f"{method} {path}", operation) for method, operation in methods.items())


def served() -> set[tuple[str, str]]:
    """Every path and method that the application's router knows."""
    app: Any = create_app(load_settings({}))
    routes = app._app._router.routes
    return {(method.lower(), route.path) for route in routes for method in route.endpoint._endpoints} - {
        ("head", route.path) for route in routes
    }


async def test_the_document_is_valid(described: DescribedAPI) -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(described.document).iter_errors()] == []


async def test_every_route_is_described_and_no_other(described: DescribedAPI) -> None:
    paths = described.document["paths"]
    assert {(method, path) for path, methods in paths.items() for method in methods} == served()


async def test_every_route_is_in_the_list_and_in_the_readme(
    described: DescribedAPI, client: httpx2.AsyncClient
) -> None:
    listed = (await client.get("/")).json()["endpoints"]
    assert {(line["method"].lower(), line["path"]) for line in listed} == served()
    read = (ROOT / "README.md").read_text() + (ROOT / "deploy" / "README.md").read_text()
    assert [path for path in described.document["paths"] if path.removesuffix("/{file}") not in read] == []


async def test_an_operation_says_what_it_needs_to(described: DescribedAPI) -> None:
    lacking = []
    for name, operation in operations(described.document):
        in_path = {found["name"] for found in operation["parameters"] if found.get("in") == "path"}
        bodies = [answer["content"] for answer in operation["responses"].values() if "content" in answer]
        bodies += [operation["requestBody"]["content"]] if "requestBody" in operation else []
        checks = {
            "a summary": operation["summary"],
            "its path's parameters": in_path == set(re.findall(r"\{(\w+)\}", name)),
            "an example of each JSON body": all(
                body["application/json"].get("examples") for body in bodies if "application/json" in body
            ),
            "an answer that is no failure": any(status < "4" for status in operation["responses"]),
            "what befalls any request": {"400", "431", "500", "503"} <= operation["responses"].keys(),
            "who is refused": not operation["security"]
            or {} in operation["security"]
            or {"401", "403", "429"} <= operation["responses"].keys(),
            "what is wrong with a body": "requestBody" not in operation or "413" in operation["responses"],
        }
        lacking += [(name, check) for check, is_there in checks.items() if not is_there]
    assert lacking == []


async def test_operations_have_names_of_their_own(described: DescribedAPI) -> None:
    ids = [operation["operationId"] for _, operation in operations(described.document)]
    assert len(ids) == len(set(ids))


async def test_every_example_is_of_its_schema(described: DescribedAPI) -> None:
    wrong = []
    parts = [part for _, operation in operations(described.document) for part in operation["responses"].values()]
    parts += [operation["requestBody"] for _, operation in operations(described.document) if "requestBody" in operation]
    parts += described.document["components"]["responses"].values()
    for part in parts:
        for body in part.get("content", {}).values():
            for name, example in body.get("examples", {}).items():
                complaints = described.complaints_about_value(body["schema"], example["value"])
                # What VAPI sends has fields that we do not read.
                wrong += [(name, text) for text in complaints if "message.call" not in text and "$.message" not in text]
    assert wrong == []


async def test_every_status_of_an_error_is_described_somewhere(described: DescribedAPI) -> None:
    statuses = {status for _, operation in operations(described.document) for status in operation["responses"]}
    classes = [ServiceError]
    for found in classes:
        classes += found.__subclasses__()
    assert {str(found.status) for found in classes} - statuses == set()


async def test_patterns_are_those_of_javascript(client: httpx2.AsyncClient) -> None:
    text = (await client.get("/openapi.json")).text
    assert [pattern for pattern in re.findall(r'"pattern":"([^"]*)"', text) if re.search(r"\\\\[AZz]", pattern)] == []


def test_a_fact_is_in_the_record_that_is_described() -> None:
    assert {*FACTS} - NOT_IN_THE_RECORD <= {*CallRecord.__struct_fields__}


def test_every_question_of_a_live_call_is_described() -> None:
    assert {*_ANSWERS, "voice-request"} <= webhook_operations().keys()


async def test_the_answer_to_every_described_webhook_is_as_described(
    described: DescribedAPI, client: httpx2.AsyncClient
) -> None:
    complaints: dict[str, list[str]] = {}
    for type_, methods in described.document["webhooks"].items():
        for example in methods["post"]["requestBody"]["content"]["application/json"]["examples"].values():
            answer = await client.post(WEBHOOK, json=example["value"])
            assert answer.status_code == 200, type_
            headers = dict(answer.headers)
            complaints[type_] = described.complaints_about(methods["post"], 200, headers, answer.content)
    assert {type_: found for type_, found in complaints.items() if found} == {}


async def test_what_is_not_described_is_a_complaint(described: DescribedAPI) -> None:
    headers = {"x-request-id": "1", "cache-control": "no-store", "content-type": "application/json"}
    body = {"success": True, "status": "ok"}

    def complaints(status: int = 200, headers: dict[str, str] = headers, **more: object) -> list[str]:
        return described.complaints("GET", "/health/live", status, headers, msgspec.json.encode({**body, **more}))

    assert complaints() == []
    assert complaints(200, {name: headers[name] for name in ("x-request-id", "content-type")})
    assert complaints(200, {**headers, "x-other": "1"})
    assert complaints(200, {**headers, "content-type": "text/plain"})
    assert complaints(status=202)
    assert complaints(other=1)
    assert complaints(status=503)  # a failure has an error


async def test_a_route_without_a_description_would_be_seen(described: DescribedAPI) -> None:
    described.document["paths"].pop("/health/live")
    assert ("get", "/health/live") in served() - {
        (method, path) for path, methods in described.document["paths"].items() for method in methods
    }


async def test_the_document_does_not_tell_how_the_service_is_set_up(
    start_replica: Callable[..., Replica], client: httpx2.AsyncClient
) -> None:
    settings = {"vapi_secret_header": "x-private-name", "vapi_webhook_secret": "s", "vapi_webhook_auth": "bearer"}
    async with connected(start_replica(**settings)) as other:
        assert (await other.get("/openapi.json")).content == (await client.get("/openapi.json")).content
