"""One request to somebody else, whoever it is: its bounds, its attempts, and what is said when there is no answer."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from service.errors import UpstreamError
from service.outbound import HttpSession
from tests.support.certificates import Authority
from tests.support.eventually import PATIENCE_S
from tests.support.fake_vapi_server import Conduct, LoopbackServer, Reply, Request, Silence
from tests.support.ports import free_port

MAX_ANSWER_BYTES: Final = 1000
BOUNDS: Final[dict[str, Any]] = {
    "connect_s": PATIENCE_S,
    "pool_s": PATIENCE_S,
    "max_connections": 2,
    "max_answer_bytes": MAX_ANSWER_BYTES,
}


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    """Answers 200 and the name of the method, until it is told otherwise."""
    server = LoopbackServer(lambda request: Reply(200, request.method.encode())).start()
    yield server
    server.stop()


@pytest.fixture
async def session(server: LoopbackServer) -> AsyncIterator[HttpSession]:
    session = HttpSession("Acme", server.url + "/", {"X-Key": "kä"}, **BOUNDS)
    yield session
    await session.close()


def expect(server: LoopbackServer, *instead: Reply | Silence) -> None:
    server.conducts += [Conduct(one, takes_effect=False, method=None) for one in instead]


async def trouble_of(session: HttpSession, method: str, *, within_s: float = PATIENCE_S, **more: Any) -> UpstreamError:
    with pytest.raises(UpstreamError) as raised:
        if method == "GET":
            await session.get("/x", within_s=within_s, **more)
        else:
            await session.send(method, "/x", within_s=within_s, **more)
    return raised.value


def paths_of(requests: list[Request]) -> list[str]:
    return [request.path for request in requests]


async def test_every_request_goes_below_the_address_with_its_headers(
    server: LoopbackServer, session: HttpSession
) -> None:
    assert (await session.get("/a", within_s=PATIENCE_S, query={"b": ["1", "2"]})).body == b"GET"
    assert (await session.send("PATCH", "/c", within_s=PATIENCE_S, content=b"{}")).body == b"PATCH"
    assert paths_of(server.received) == ["/a", "/c"]
    assert {request.headers["x-key"] for request in server.received} == {"kä".encode().decode("latin-1")}
    assert {request.headers["accept-encoding"] for request in server.received} == {"identity"}


async def test_cookies_of_the_other_side_are_not_kept(server: LoopbackServer, session: HttpSession) -> None:
    expect(server, Reply(200, b"", {"set-cookie": "seen=1; Path=/"}))
    await session.send("POST", "/a", within_s=PATIENCE_S)
    await session.send("POST", "/b", within_s=PATIENCE_S)
    await session.post_to("127.0.0.1", "/c", within_s=PATIENCE_S, headers={}, content=b"{}")
    assert ["cookie" in request.headers for request in server.received] == [False, False, False]


async def test_an_answer_is_one_whatever_its_status(server: LoopbackServer, session: HttpSession) -> None:
    for status in (204, 302, 404, 500, 503):
        expect(server, Reply(status, b"", {"location": server.url + "/elsewhere"}))
        answer = await session.send("POST", "/x", within_s=PATIENCE_S)
        assert (answer.status, answer.is_success) == (status, status == 204)
    assert paths_of(server.received) == ["/x"] * 5


async def test_only_a_request_that_may_have_changed_something_has_an_unknown_outcome(
    server: LoopbackServer, session: HttpSession
) -> None:
    for instead, within_s, sentence in (
        (Silence.BREAK, PATIENCE_S, "The connection to Acme broke"),
        (Silence.CUT, PATIENCE_S, "The connection to Acme broke"),
        (Silence.HANG, 3.0, "Acme did not answer in time"),
        (Reply(200, b"x" * (MAX_ANSWER_BYTES + 1)), PATIENCE_S, "Acme's answer cannot be read"),
        (Reply(200, b"x", {"content-encoding": "gzip"}), PATIENCE_S, "Acme's answer cannot be read"),
    ):
        for method in ("GET", "POST"):
            expect(server, instead)
            error = await trouble_of(session, method, within_s=within_s)
            assert (str(error), error.is_outcome_unknown) == (sentence, method == "POST"), (instead, method)


async def test_where_nobody_listens_nothing_was_sent_and_no_address_is_told() -> None:
    session = HttpSession("Acme", f"http://127.0.0.1:{free_port()}", {}, **BOUNDS)
    error = await trouble_of(session, "POST")
    await session.close()
    assert (str(error), error.is_outcome_unknown) == ("Acme cannot be reached", False)
    assert isinstance(error.__cause__, httpx2.ConnectError)


async def test_the_longest_answer_is_taken_whole(server: LoopbackServer, session: HttpSession) -> None:
    expect(server, Reply(200, b"x" * MAX_ANSWER_BYTES))
    assert len((await session.get("/x", within_s=PATIENCE_S)).body) == MAX_ANSWER_BYTES


async def test_of_a_refusal_no_more_is_read_than_is_wanted(server: LoopbackServer, session: HttpSession) -> None:
    much = Reply(400, b"x" * 5_000_000, {"content-encoding": "gzip"})
    expect(server, much, Reply(400, b"why"), much)
    assert (await session.send("POST", "/x", within_s=PATIENCE_S)).body == b""
    curious = HttpSession("Acme", server.url, {}, max_refusal_bytes=3, **BOUNDS | {"max_answer_bytes": 5_000_000})
    assert (await curious.send("POST", "/x", within_s=PATIENCE_S)).body == b"why"
    assert len((await curious.send("POST", "/x", within_s=PATIENCE_S)).body) < 5_000_000
    await curious.close()


async def test_a_question_is_asked_again_for_as_many_pauses_as_there_are(
    server: LoopbackServer, session: HttpSession
) -> None:
    expect(server, Reply(503), Silence.BREAK)
    answer = await session.get("/x", within_s=PATIENCE_S, pauses_s=(0.01, 0.01), again_after={503, "broken"})
    assert (answer.status, len(server.received)) == (200, 3)
    expect(server, Reply(503), Reply(503))
    assert (await session.get("/x", within_s=PATIENCE_S, pauses_s=(0.01,), again_after={503})).status == 503
    assert len(server.received) == 5


async def test_a_question_is_not_asked_again_for_another_reason(server: LoopbackServer, session: HttpSession) -> None:
    expect(server, Reply(503))
    assert (await session.get("/x", within_s=PATIENCE_S, pauses_s=(0.01,), again_after={"broken"})).status == 503
    expect(server, Silence.BREAK)
    await trouble_of(session, "GET", pauses_s=(0.01,), again_after={503})
    assert len(server.received) == 2


async def test_all_attempts_share_one_deadline(server: LoopbackServer, session: HttpSession) -> None:
    expect(server, Reply(503))
    error = await trouble_of(session, "GET", within_s=0.3, pauses_s=(PATIENCE_S,), again_after={503})
    assert str(error) == "Acme did not answer in time"


async def test_a_proxy_that_breaks_off_leaves_the_other_side_untouched(
    server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", server.url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    url = "https://acme.example.invalid"
    session = HttpSession("Acme", url, {}, **BOUNDS)
    for instead in (Silence.BREAK, Reply(407, b"")):
        expect(server, instead)
        assert not (await trouble_of(session, "POST")).is_outcome_unknown, instead
    await session.close()
    assert {request.method for request in server.received} == {"CONNECT"}


async def test_a_certificate_that_nobody_trusts_has_a_sentence_of_its_own(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*Authority(tmp_path, "authority").issue("IP:127.0.0.1"))
    listener = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    for scheme in ("https", "HTTPS"):
        url = f"{scheme}://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        session = HttpSession("Acme", url, {}, sentences={"untrusted": "Who are you?"}, **BOUNDS)
        error = await trouble_of(session, "POST")
        await session.close()
        assert (str(error), error.is_outcome_unknown) == ("Who are you?", False), scheme
    listener.close()


def tls_pair(folder: Path, host: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context for that host, and a client's that trusts its authority."""
    authority = Authority(folder, "authority")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*authority.issue(f"DNS:{host}"))
    return server, ssl.create_default_context(cafile=str(authority.certificate))


@pytest.mark.parametrize("certified", ["name.example", "other.example"])
async def test_a_given_address_is_connected_to_and_the_certificate_must_be_the_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certified: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
    server_tls, client_tls = tls_pair(tmp_path, certified)
    server = LoopbackServer(lambda _: Reply(200, b"x" * 10_000), tls=server_tls).start()
    bounds = {**BOUNDS, "max_answer_bytes": None}
    url = f"https://name.example:{server.port}"
    session = HttpSession("Acme", url, {}, tls=client_tls, uses_proxies=False, **bounds)
    try:
        sending = session.post_to(
            "127.0.0.1", "/a'b(c)%2a?q=/%20", within_s=PATIENCE_S, headers={"X-Key": "k"}, content=b"body"
        )
        if certified == "name.example":
            assert (await sending).body == b"", "unread"
            [request] = server.received
            assert (request.target, request.body) == ("/a'b(c)%2a?q=/%20", b"body")
            assert (request.headers["host"], request.headers["x-key"]) == (url.removeprefix("https://"), "k")
        else:
            with pytest.raises(UpstreamError):
                await sending
            assert server.received == []
    finally:
        await session.close()
        server.stop()
