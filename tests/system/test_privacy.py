"""Private words, numbers and secrets go through a real process by every way in, and come out of none but the record's."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
import structlog

from service.cli.main import main
from tests.support import canaries
from tests.support.callback_receiver import CallbackReceiver
from tests.support.canaries import ADMIN_TOKEN, PHONE, READ_TOKEN, SECRETS, TYPED, WEBHOOK_SECRET, WRONG_SECRET, leaks
from tests.support.commands import run
from tests.support.eventually import eventually
from tests.support.fake_kestra import FakeKestra
from tests.support.fake_vapi import FakeVapi
from tests.support.fake_vapi_server import Reply
from tests.support.for_each import for_each
from tests.support.redis_server import RedisProcess
from tests.support.replica import ROOT, Replica
from tests.support.routes import CALLS, PLACE, STATS, WEBHOOK
from tests.support.traffic import ask_despite_late_disk, ask_until_served, open_client
from tests.support.vapi_sender import sign

PROOF: Final = {"X-Vapi-Secret": WEBHOOK_SECRET}
PAGES: Final = ("/", "/metrics", "/health", "/health/live", "/health/ready", "/openapi.json", "/docs", "/ops")

FAILS: Final = f"""
import sys, structlog
from service.load_config import load_settings
from service.log import configure_logs
from service.log_writer import write_remaining_lines

def fail(said):
    raise ValueError("odd")

configure_logs(load_settings({{"LOG_FORMAT": sys.argv[1]}}))
try:
    fail("{canaries.SAID}")
except ValueError:
    structlog.get_logger().exception("request.failed")
write_remaining_lines()
"""


class Witness:
    """Talks with one replica, and keeps what it answered that is no record."""

    def __init__(self, client: httpx2.AsyncClient, replica: Replica) -> None:
        self.heard: dict[str, str] = {}
        self._client = client
        self._replica = replica

    async def ask(
        self, method: str, path: str, token: str | None = ADMIN_TOKEN, *, is_record: bool = False, **more: Any
    ) -> httpx2.Response:
        """``is_record``: the answer may hold what a record holds, but no secret."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= more.pop("headers", {})
        answer = await self._client.request(method, self._replica.url + path, headers=headers, **more)
        said = f"{answer.headers.multi_items()} {answer.text}"
        where = f"{method} {path} {answer.status_code}"
        if is_record:
            assert leaks(where, said, SECRETS) == []
        else:
            self.heard[f"{where} #{len(self.heard)}"] = said
        return answer

    async def read(self, path: str) -> httpx2.Response:
        """A record or several; again while a busy machine's Redis is late."""
        return await ask_until_served(lambda: self.ask("GET", path, is_record=True))

    async def post_webhook(self, body: Any, **headers: str) -> httpx2.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.ask("POST", WEBHOOK, None, content=content, headers=headers or PROOF)


@pytest.fixture
async def vapi() -> AsyncIterator[FakeVapi]:
    async with FakeVapi(api_key=canaries.VAPI_KEY) as fake:
        yield fake


@pytest.fixture
async def kestra() -> AsyncIterator[FakeKestra]:
    async with FakeKestra(username="kestra", password=canaries.KESTRA_PASSWORD) as fake:
        yield fake


@pytest.fixture
def receiver() -> Iterator[CallbackReceiver]:
    with CallbackReceiver(secret=canaries.CALLBACK_SECRET) as receiver:
        yield receiver


@pytest.fixture
def redis(tmp_path: Path) -> Any:
    server = RedisProcess(password=canaries.REDIS_PASSWORD).start()
    yield server
    server.stop()


@pytest.fixture
def settings(
    redis: RedisProcess, vapi: FakeVapi, kestra: FakeKestra, receiver: CallbackReceiver, tmp_path: Path
) -> dict[str, Any]:
    return {
        "redis_url": f"redis://:{canaries.REDIS_PASSWORD}@127.0.0.1:{redis.port}/0",
        "vapi_webhook_secret": WEBHOOK_SECRET, "api_read_tokens": READ_TOKEN, "api_admin_tokens": ADMIN_TOKEN,
        "kestra_url": kestra.url, "kestra_username": "kestra", "kestra_password": canaries.KESTRA_PASSWORD,
        "callback_allowed_prefixes": f"{receiver.url}, http://127.0.0.1:9", "callback_secret": canaries.CALLBACK_SECRET,
        "database_url": f"postgresql://u:{canaries.DATABASE_PASSWORD}@127.0.0.1/d",
        "spool_dir": str(tmp_path / "spool"), "log_level": "debug", **vapi.settings,
    }  # fmt: skip


async def take_webhooks(witness: Witness) -> None:
    """Good ones, and each way of being wrong."""
    report = json.dumps(canaries.report("canary-1")).encode()
    for taken in (report, canaries.odd_report("canary-2")):
        assert (await ask_until_served(partial(witness.post_webhook, taken))).status_code == 200
    await witness.post_webhook(report, **sign(report, WEBHOOK_SECRET))
    assert (await witness.post_webhook(report, **{"X-Vapi-Secret": WRONG_SECRET})).status_code == 401
    await witness.post_webhook(report, Authorization=f"Bearer {WRONG_SECRET}")
    await witness.post_webhook(report, **sign(report, WRONG_SECRET))
    await witness.post_webhook(report, **{"X-Vapi-Signature": WRONG_SECRET})
    await witness.post_webhook(report[:-3])
    await witness.post_webhook(report.replace(b'"canary-1"', b'"' + TYPED.encode() + b' of an id"'))
    await witness.post_webhook(b"\xff" + TYPED.encode())
    await witness.post_webhook([TYPED])
    await witness.post_webhook({"message": TYPED})
    await witness.post_webhook({"message": {"type": {"odd": TYPED}}})
    await witness.post_webhook({TYPED: {"type": "end-of-call-report"}})
    await witness.post_webhook(report, **PROOF, **{"Content-Encoding": TYPED})
    called = {"id": "1", "function": {"name": "look", "arguments": {"phone": PHONE, "said": canaries.SAID}}}
    await witness.post_webhook(
        {"message": {"type": "tool-calls", "call": {"id": "canary-3"}, "toolCallList": [called]}}
    )
    await witness.post_webhook({"message": {"type": "transcript", "call": {"id": "canary-3"}, "transcript": TYPED}})


async def poll(witness: Witness) -> None:
    for view in ("", "?view=summary", "?wait=1"):
        assert (await witness.read(f"{CALLS}canary-1{view}")).status_code == 200
    assert (await witness.read(f"{CALLS}by-phone/{PHONE}")).json()["count"] > 0
    for token in (None, canaries.WRONG_TOKEN):
        assert (await witness.ask("GET", f"{CALLS}canary-1", token)).status_code == 401
        await witness.ask("GET", f"{CALLS}by-phone/{PHONE}", token)
    assert (await witness.ask("DELETE", f"{CALLS}canary-1", READ_TOKEN)).status_code == 403
    wrong = [
        f"{CALLS}{TYPED}%20of%20an%20id", f"{CALLS}canary-1?wait={TYPED}", f"{CALLS}canary-1?view={TYPED}",
        f"{CALLS}by-phone/{TYPED}", f"{CALLS}by-phone/{PHONE}?limit={TYPED}", f"{CALLS}by-phone/{'9' * 200}{PHONE}",
        f"/{TYPED}/{PHONE}", f"{STATS}?limit={TYPED}", f"{PLACE}/batch/{TYPED}%20",
    ]  # fmt: skip
    for path in wrong:
        assert (await witness.ask("GET", path)).status_code < 500, path
    await witness.ask("GET", f"{CALLS}canary-nobody?wait=0.1")
    await witness.ask("PUT", f"{CALLS}by-phone/{PHONE}")


async def subscribe(witness: Witness) -> None:
    for body in (
        {"kind": "kestra_resume", "execution_id": "canary4"},
        {"kind": TYPED, "execution_id": "canary4"},
        {"kind": "kestra_resume", "execution_id": f"{TYPED} "},
        {"kind": "callback", "url": f"https://u:{WRONG_SECRET}@callback.example/{TYPED}"},
        {TYPED: PHONE},
    ):
        await witness.ask("POST", f"{CALLS}canary-1/subscriptions", json=body)


async def call_back(witness: Witness, receiver: CallbackReceiver) -> None:
    """To one that takes it at the second try, one that wants none, one that nobody is behind, and one that is refused."""
    targets = [f"/{name}?key={canaries.CALLBACK_KEY}" for name in ("taken", "gone")]
    receiver.always[targets[1]] = Reply(410, canaries.CALLBACK_KEY)
    receiver.meet_next(Reply(500, canaries.CALLBACK_KEY))
    for url in (
        *(receiver.url + target for target in targets),
        f"http://127.0.0.1:9/{canaries.CALLBACK_KEY}",
        f"{receiver.url}/..{canaries.CALLBACK_KEY}",
        f"https://{canaries.CALLBACK_KEY}.example/",
        f"{receiver.url}/{canaries.CALLBACK_KEY}\n",
    ):
        body = {"kind": "callback", "url": url}
        await ask_until_served(partial(witness.ask, "POST", f"{CALLS}canary-1/subscriptions", json=body))
    await eventually(lambda: all(receiver.sent_to(target) for target in targets) and len(receiver.requests) > 2)


async def place(witness: Witness, vapi: FakeVapi) -> None:
    for request in (canaries.CALL_REQUEST, {**canaries.CALL_REQUEST, "method": "kestra"}):
        placed = await ask_until_served(partial(witness.ask, "POST", PLACE, json=request))
        assert placed.status_code == 202
    for wrong in ({"urgency": TYPED}, {"providerPhone": f"{TYPED}{PHONE}"}, {"method": TYPED}, {"location": [TYPED]}):
        assert (await witness.ask("POST", PLACE, json={**canaries.CALL_REQUEST, **wrong})).status_code == 400
    await witness.ask("POST", PLACE, content=TYPED.encode())
    await witness.ask("POST", f"{PLACE}/batch", json={"requests": [canaries.CALL_REQUEST, {"location": TYPED}]})
    await witness.ask("POST", "/api/v1/vapi/assistant-config", json={"urgency": TYPED})
    # VAPI quotes what it refuses. The caller, who sent it, may read that; the log may not hold it.
    vapi.refuse_next(400, f"customer.number {canaries.PROVIDER_PHONE} is wrong, {canaries.PERSON}", method="POST")
    await witness.ask("POST", PLACE, json=canaries.CALL_REQUEST, is_record=True)
    vapi.answer_next(500, f"{canaries.PERSON} {canaries.VAPI_KEY}".encode(), method="POST")
    await witness.ask("POST", PLACE, json=canaries.CALL_REQUEST)


async def break_things(witness: Witness, redis: RedisProcess, vapi: FakeVapi) -> None:
    """Redis goes, so that webhooks are spooled and requests fail, and comes back."""
    redis.kill()
    report = canaries.report("canary-5")
    assert (await ask_despite_late_disk(lambda: witness.post_webhook(report)))[-1].status_code == 200
    for path in (f"{CALLS}canary-1", f"{CALLS}by-phone/{PHONE}", STATS, "/health"):
        await witness.ask("GET", path)
    await witness.ask("POST", PLACE, json=canaries.CALL_REQUEST)
    vapi.go_away()
    await look_at_pages(witness)
    redis.start()
    redis.client.ping()

    async def is_drained() -> bool:
        return (await witness.read(f"{CALLS}canary-5")).status_code == 200

    await eventually(is_drained)
    await witness.ask("GET", f"{CALLS}canary-5/recording")


async def look_at_pages(witness: Witness) -> None:
    for path in PAGES:
        for token in (None, canaries.WRONG_TOKEN, READ_TOKEN, ADMIN_TOKEN):
            await witness.ask("GET", path, token)
    await witness.ask("GET", f"{STATS}?limit=100")


def run_commands(settings: dict[str, Any], replica: Replica, folder: Path) -> dict[str, str]:
    """What the commands print whose purpose is not to show a record."""
    request = folder / "request.json"
    request.write_text(json.dumps({**canaries.CALL_REQUEST, "urgency": TYPED}))
    broken = folder / "broken.json"
    broken.write_text(f'{{"location": "{TYPED}"')
    given = {**settings, "log_level": "info"}
    url = ("--url", replica.url)
    wrong = {**given, "api_read_tokens": canaries.WRONG_TOKEN, "api_admin_tokens": canaries.WRONG_TOKEN}
    heard = {}
    for name, arguments, environment in (
        ("check-config", ("check-config",), given),
        ("spool list", ("spool", "list"), given),
        ("doctor", ("doctor",), given),
        ("show-call, wrong token", ("show-call", "canary-1", *url), wrong),
        ("call, wrong request", ("call", "--request", str(request), *url), given),
        ("call, broken request", ("call", "--request", str(broken), *url), given),
        ("send-webhook", ("send-webhook", "--call-id", "canary-6", *url), given),
        ("send-webhook, wrong secret", ("send-webhook", *url), {**given, "vapi_webhook_secret": WRONG_SECRET}),
        ("assistant show", ("assistant", "show"), given),
        ("wrong setting", ("check-config",), {**given, "redis_url": f"http://:{canaries.REDIS_PASSWORD}@h"}),
        ("both set", ("check-config",), {**given, "vapi_api_key_file": "/dev/null"}),
    ):
        done = run(*arguments, **environment)
        heard[name] = done.stdout + done.stderr
    return heard


async def test_nothing_private_comes_out_but_with_a_record(
    start_replica: Callable[..., Replica],
    settings: dict[str, Any],
    redis: RedisProcess,
    vapi: FakeVapi,
    kestra: FakeKestra,
    receiver: CallbackReceiver,
    tmp_path: Path,
) -> None:
    replica = start_replica(**settings)
    async with open_client() as client:
        witness = Witness(client, replica)
        await take_webhooks(witness)
        await poll(witness)
        await subscribe(witness)
        await call_back(witness, receiver)
        await place(witness, vapi)
        await look_at_pages(witness)
        await break_things(witness, redis, vapi)
        await look_at_pages(witness)
        printed = await asyncio.to_thread(run_commands, settings, replica, tmp_path)
    replica.stop()
    assert kestra.executions, "a flow was started"
    lines = [json.loads(line) for line in replica.log.splitlines()]
    assert {
        "callback.delivered",
        "callback.dropped",
        "callback_origin.failed",
        "webhook.not_stored",
        "vapi.refused",
        "call.placed",
        "webhook.unauthorized",
    } <= {line["event"] for line in lines}
    found = [leak for where, text in {**witness.heard, **printed}.items() for leak in leaks(where, text)]
    found += [leak for line in lines for leak in leaks(f"the log: {line['event']}", json.dumps(line))]
    assert found == []


async def test_the_arguments_of_a_command_that_redis_does_not_know_are_not_logged(
    start_replica: Callable[..., Replica],
) -> None:
    """Its reply quotes the first 128 bytes of them."""
    redis = RedisProcess("--rename-command", "EVALSHA", "").start()
    replica = start_replica(redis_url=redis.url, vapi_webhook_secret=WEBHOOK_SECRET, log_level="debug")
    async with open_client() as client:
        assert (await Witness(client, replica).post_webhook(canaries.report("canary-7"))).status_code == 503
    replica.stop()
    redis.stop()
    assert "unknown command 'EVALSHA'" in replica.log
    assert "beginning with" not in replica.log


@for_each("log_format", ["json", "console"])
def test_an_exception_in_the_log_shows_none_of_the_variables(log_format: str) -> None:
    """structlog gives a traceback on a terminal to rich, if that is installed, and rich shows the variables."""
    pytest.importorskip("rich")
    done = subprocess.run(
        [sys.executable, "-c", FAILS, log_format], check=True, capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert "ValueError: odd" in done.stdout
    assert leaks("the log", done.stdout + done.stderr) == []


def test_an_exception_that_a_command_logs_shows_none_of_the_variables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rich")

    def fail(said: str) -> None:
        raise ValueError("odd")

    assert main(["check-config"]) == 0
    try:
        fail(canaries.SAID)
    except ValueError:
        structlog.get_logger().exception("spool.change_failed")
    printed = capsys.readouterr()
    assert "ValueError: odd" in printed.err
    assert leaks("what it printed", printed.err) == []
