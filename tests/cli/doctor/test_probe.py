"""The doctor's own webhook and poll, sent to a real service, and what comes of services that are not as they should be."""

from __future__ import annotations

import os
import signal
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import Authority
from tests.support.diagnosis import Diagnosis, diagnose, diagnose_until
from tests.support.eventually import eventually_sync
from tests.support.ports import free_port
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.strange_services import half_a_proxy, stranger
from tests.support.warm_service import WarmProcess

SECRET, READ, ADMIN = "the-webhook-secret", "the-read-token", "the-admin-token"
CREDENTIALS: dict[str, Any] = {"vapi_webhook_secret": SECRET, "api_read_tokens": READ, "api_admin_tokens": ADMIN}
HOOK = "/api/v1/vapi/webhook"

Start = Callable[..., Replica]


@pytest.fixture(scope="module")
def site(redis_process: RedisProcess) -> Iterator[tuple[Replica, dict[str, Any]]]:
    """A closed replica, and the settings that it shares with the doctor."""
    settings = {**CREDENTIALS, "redis_url": redis_process.url, "redis_key_prefix": "doctor"}
    replica = Replica(**settings).start()
    yield replica, settings
    replica.stop()


def diagnose_site(site: tuple[Replica, dict[str, Any]], *arguments: str, **settings: Any) -> Diagnosis:
    replica, ours = site
    hook = {"vapi_webhook_url": replica.url + HOOK, "port": replica.port}
    diagnosis = diagnose(*arguments, **{**ours, **hook, **settings})
    for secret in (SECRET, READ, ADMIN):
        assert secret not in diagnosis.printed
    return diagnosis


def records_of(redis: RedisProcess, prefix: str = "doctor") -> list[dict[bytes | str, bytes | str]]:
    """What Redis holds of probes."""
    return [redis.client.hgetall(key) for key in redis.client.scan_iter(f"{prefix}:*:call:doctor-probe-*")]


def troubles(diagnosis: Diagnosis) -> list[str]:
    """Without the address, which is a loopback one in all these tests."""
    return [each for each in diagnosis.troubles("service") if not each.startswith("address")]


def test_a_service_that_is_well_is_found_so_and_only_a_tombstone_is_left(
    site: tuple[Replica, dict[str, Any]], redis_process: RedisProcess
) -> None:
    diagnosis = diagnose_site(site)
    assert troubles(diagnosis) == []
    assert [each.check for each in diagnosis.of("service")] == ["address", "health", "webhook", "poll", "same Redis"]
    assert records_of(redis_process) != []
    assert all(record.keys() == {b"deleted", b"deleted_by"} for record in records_of(redis_process))


@pytest.mark.parametrize("auth", ["secret", "bearer", "hmac", "legacy"])
def test_the_probe_is_proven_in_the_mode_that_the_service_accepts(
    start_replica: Start, redis_process: RedisProcess, auth: str
) -> None:
    settings = {**CREDENTIALS, "redis_url": redis_process.url, "redis_key_prefix": "modes", "vapi_webhook_auth": auth}
    assert troubles(diagnose_site((start_replica(**settings), settings))) == []


def test_an_open_service_needs_no_proof(start_replica: Start, redis_process: RedisProcess) -> None:
    settings = {"redis_url": redis_process.url, "redis_key_prefix": "opened"}
    diagnosis = diagnose_site((start_replica(**settings), settings))
    assert troubles(diagnosis) == []
    assert diagnosis.troubles("settings") == ["credentials: warning"]


def test_the_embedded_store_of_a_new_user_is_reached_through_the_service(start_replica: Start) -> None:
    replica = start_replica()
    diagnosis = diagnose(port=replica.port)
    assert (diagnosis.troubles("service"), diagnosis.status) == (["address: warning"], 1)
    assert [each.check for each in diagnosis.of("service")] == ["address", "health", "webhook", "poll"]


def test_a_base_url_wins_over_the_address_of_vapi(site: tuple[Replica, dict[str, Any]]) -> None:
    elsewhere = f"http://127.0.0.1:{free_port()}{HOOK}"
    diagnosis = diagnose_site(site, "--url", site[0].url + "/", vapi_webhook_url=elsewhere)
    assert diagnosis.troubles("service") == []


def test_a_service_that_does_not_run_is_one_error(site: tuple[Replica, dict[str, Any]]) -> None:
    diagnosis = diagnose_site(site, vapi_webhook_url=f"http://127.0.0.1:{free_port()}{HOOK}")
    assert (troubles(diagnosis), diagnosis.status) == (["webhook: error"], 2)


def test_another_secret_than_the_services_is_found(site: tuple[Replica, dict[str, Any]]) -> None:
    found = diagnose_site(site, vapi_webhook_secret="a-drifted-secret").one("service", "webhook")
    assert (found.level, "401" in found.found) == ("error", True)


def test_another_token_than_the_services_is_found(site: tuple[Replica, dict[str, Any]]) -> None:
    diagnosis = diagnose_site(site, api_read_tokens="a-drifted-token")
    assert troubles(diagnosis) == ["poll: error"]
    assert "a-drifted-token" not in diagnosis.printed


def test_without_an_admin_token_the_probe_is_deleted_all_the_same(
    site: tuple[Replica, dict[str, Any]], redis_process: RedisProcess
) -> None:
    diagnosis = diagnose_site(site, api_admin_tokens="")
    assert troubles(diagnosis) == []
    assert all(b"deleted" in record for record in records_of(redis_process))


def test_a_probe_that_cannot_be_deleted_is_named(start_replica: Start) -> None:
    replica = start_replica(**CREDENTIALS)
    diagnosis = diagnose(port=replica.port, **{**CREDENTIALS, "api_admin_tokens": "a-drifted-token"})
    found = diagnosis.one("service", "clean-up")
    assert (found.level, "doctor-probe-" in found.found) == ("warning", True)


def test_another_redis_than_the_services_is_found(site: tuple[Replica, dict[str, Any]]) -> None:
    diagnosis = diagnose_site(site, redis_key_prefix="not-the-services")
    assert troubles(diagnosis) == ["same Redis: error"]


def test_a_wrong_path_is_found(site: tuple[Replica, dict[str, Any]]) -> None:
    diagnosis = diagnose_site(site, vapi_webhook_url=site[0].url + "/hooks/vapi")
    assert troubles(diagnosis) == ["webhook: error"]


def test_a_service_without_redis_says_so(start_replica: Start) -> None:
    settings = {**CREDENTIALS, "redis_url": f"redis://127.0.0.1:{free_port()}", "store_timeout_s": 0.3}
    diagnosis = diagnose_site((start_replica(**settings), settings))
    assert troubles(diagnosis) == ["health: error", "webhook: error", "clean-up: warning"]


def test_a_webhook_that_was_spooled_has_no_record_yet(start_replica: Start, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    settings = {
        **CREDENTIALS,
        "redis_url": f"redis://127.0.0.1:{free_port()}",
        "store_timeout_s": 0.3,
        "spool_dir": tmp_path,
    }
    replica = start_replica(**settings)
    diagnosis = diagnose_until(
        lambda found: found.level("service", "webhook") == "ok", lambda: diagnose_site((replica, settings))
    )
    assert troubles(diagnosis) == ["health: warning", "poll: error", "clean-up: warning"]


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (404, "not as this service does"),
        (200, "not as this service does"),
        (502, "a proxy answered 502"),
        (503, "proxy"),
    ],
)
def test_an_answer_that_is_not_ours_is_found(site: tuple[Replica, dict[str, Any]], status: int, word: str) -> None:
    with stranger(status) as (url, _):
        found = diagnose_site(site, vapi_webhook_url=url + HOOK).one("service", "webhook")
    assert (found.level, word in found.found) == ("error", True), found


def test_a_redirect_is_an_error_and_takes_no_secret_along(site: tuple[Replica, dict[str, Any]]) -> None:
    with stranger(200) as (elsewhere, seen), stranger(307, location=elsewhere) as (url, _):
        found = diagnose_site(site, vapi_webhook_url=url + HOOK).one("service", "webhook")
    assert (found.level, "does not follow" in found.found) == ("error", True)
    assert seen == []


def test_a_host_that_only_takes_webhooks_is_pointed_out(site: tuple[Replica, dict[str, Any]]) -> None:
    taken = b'{"success":true,"message":"Webhook processed: status-update","callId":"a"}'
    with stranger(200, taken) as (url, _):
        diagnosis = diagnose_site(site, vapi_webhook_url=url + HOOK)
    assert diagnosis.level("service", "webhook") == "ok"
    assert diagnosis.level("service", "same Redis") == "error"


def test_a_certificate_that_is_not_trusted_is_named(site: tuple[Replica, dict[str, Any]], tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*Authority(tmp_path, "theirs").issue("IP:127.0.0.1"))
    with stranger(200, tls=context) as (url, _):
        diagnosis = diagnose_site(site, vapi_webhook_url=url + HOOK)
    assert "not trusted" in diagnosis.one("service", "webhook").found


@pytest.mark.parametrize("url", ["http://calls.example.invalid/api/v1/vapi/webhook", "https://calls.example.invalid/x"])
def test_an_address_that_cannot_serve_vapi_is_pointed_out(site: tuple[Replica, dict[str, Any]], url: str) -> None:
    assert diagnose_site(site, "--timeout", "5", vapi_webhook_url=url).level("service", "address") == "warning"


def test_a_poll_that_hangs_takes_no_finding_away_and_the_probe_is_deleted_all_the_same(
    site: tuple[Replica, dict[str, Any]], redis_process: RedisProcess
) -> None:
    for record in redis_process.client.scan_iter("doctor:*:call:doctor-probe-*"):
        redis_process.client.delete(record)
    with half_a_proxy(site[0].url) as url:
        diagnosis = diagnose_site(site, "--timeout", "4", vapi_webhook_url=url + HOOK)
    assert (diagnosis.level("service", "webhook"), troubles(diagnosis)) == ("ok", ["poll: error"])
    assert [record.keys() for record in records_of(redis_process)] == [{b"deleted", b"deleted_by"}]


def test_a_doctor_that_is_interrupted_deletes_its_probe(
    site: tuple[Replica, dict[str, Any]], redis_process: RedisProcess, tmp_path: Path
) -> None:
    for record in redis_process.client.scan_iter("doctor:*:call:doctor-probe-*"):
        redis_process.client.delete(record)
    replica, ours = site
    with half_a_proxy(replica.url) as url, (tmp_path / "out").open("wb") as out:
        environment = {name.upper(): str(value) for name, value in ours.items()}
        environment |= {"VAPI_WEBHOOK_URL": url + HOOK, "PATH": os.environ["PATH"]}
        doctor = WarmProcess(["doctor", "--timeout", "120"], environment, stdout=out.fileno(), stderr=out.fileno())
        eventually_sync(lambda: bool(records_of(redis_process)))
        doctor.send_signal(signal.SIGINT)
        assert doctor.wait() == 130, (tmp_path / "out").read_text()
    assert [record.keys() for record in records_of(redis_process)] == [{b"deleted", b"deleted_by"}]
