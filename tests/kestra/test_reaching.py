"""How Kestra is reached: credentials, odd names and addresses, certificates."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from service.kestra.client import KestraClient
from tests.support.certificates import Authority
from tests.support.fake_kestra import FakeKestra, Style
from tests.support.kestra_talk import connected, refusal_of, settings_for, until_said


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


@pytest.fixture
def tls(authority: Authority) -> ssl.SSLContext:
    """The certificate of 127.0.0.1, signed by an authority that nobody knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("IP:127.0.0.1"))
    return context


@pytest.mark.parametrize("style", ["v1", "v2"])
async def test_a_token_proves_as_well(style: Style) -> None:
    async with FakeKestra(style, token="t-1") as kestra, connected(kestra, kestra_token="t-1") as client:
        assert (await client.create_execution({"request": "{}"}, labels={})).state == "CREATED"


async def test_credentials_in_the_url_prove_as_well() -> None:
    async with FakeKestra(username="ops@example.com", password="p/ä") as kestra:
        url = kestra.url.replace("http://", "http://ops%40example.com:p%2F%C3%A4@") + "/?a=b#c"
        client = KestraClient(settings_for(kestra, kestra_url=url, kestra_username="", kestra_password=""))
        await until_said(client, None)
        await client.close()


async def test_names_with_odd_characters_stay_one_part_of_the_path() -> None:
    async with FakeKestra(tenant="a%2Fb%20c") as kestra, connected(kestra, kestra_tenant="a/b c") as client:
        assert await client.find_execution("x/../y?z#%41") is None
        assert kestra.requests[-1].path == "/api/v1/a%2Fb%20c/executions/x%2F..%2Fy%3Fz%23%2541"


async def test_a_kestra_below_a_path_is_reached() -> None:
    async with FakeKestra() as kestra:
        client = KestraClient(settings_for(kestra, kestra_url=kestra.url + "/below/"))
        sentence = await refusal_of(client.create_execution({"request": "{}"}, labels={}))
        assert kestra.requests[-1].path == "/below/api/v1/main/executions/ai_concierge/call_provider"
        assert "KESTRA_FLOW" in sentence
        await client.close()


async def test_without_credentials_none_are_sent() -> None:
    async with FakeKestra() as kestra, connected(kestra, kestra_username="", kestra_password="") as client:
        await client.find_execution("x")
        assert kestra.requests[-1].authorization is None


async def test_an_authority_that_the_environment_names_is_trusted(
    authority: Authority, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    async with FakeKestra(tls=tls) as kestra, connected(kestra) as client:
        assert (await client.create_execution({"request": "{}"}, labels={})).id in kestra.executions


async def test_a_certificate_nobody_trusts_is_told_from_nobody_there(tls: ssl.SSLContext) -> None:
    async with FakeKestra(tls=tls) as kestra, connected(kestra) as client:
        sentence = await refusal_of(client.create_execution({"request": "{}"}, labels={}))
        assert "certificate is not trusted" in sentence
        assert not kestra.requests


@pytest.mark.parametrize(("there", "said"), [("https", "http"), ("http", "https")])
async def test_the_wrong_scheme_is_said_to_be_looked_at(tls: ssl.SSLContext, there: str, said: str) -> None:
    kestra = FakeKestra(tls=tls if there == "https" else None)
    url = kestra.url.replace(there + ":", said + ":")
    async with kestra, connected(kestra, kestra_url=url) as client:
        await until_said(client, "KESTRA_URL")
