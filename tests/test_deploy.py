"""What we ship for Compose works: its secrets, what we set for Redis and HAProxy, and what bounds each container.

No container engine is needed: Redis and HAProxy run as programs of this machine, started as the compose file says.
"""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from ruamel.yaml import YAML

from service.config import Settings
from service.load_config import load_settings
from service.server.serve import GRACEFUL_S
from tests.support.eventually import eventually_sync
from tests.support.image import last
from tests.support.load_balancer import CONFIGURATION, LoadBalancer
from tests.support.redis_server import RedisProcess, free_port
from tests.support.replica import ROOT, START_S, Replica

DEPLOY = ROOT / "deploy"
REPLICAS = ("replica-a", "replica-b")


COMPOSE_FILES = ("compose.yaml", "compose.archive.yaml")


def compose(file: str = "compose.yaml") -> Any:
    return YAML(typ="safe").load(DEPLOY / file)


def test_the_compose_files_are_such() -> None:
    files = [str(DEPLOY / file) for file in COMPOSE_FILES]
    check = ["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", *files]
    done = subprocess.run([sys.executable, *check], capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout.decode()


def test_every_container_is_bounded_and_may_do_nothing_that_it_need_not() -> None:
    added = {"postgres": compose("compose.archive.yaml")["services"]["postgres"]}
    for name, service in (compose()["services"] | added).items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.keys() & {"cap_add", "privileged", "devices", "pid", "network_mode", "ipc"}, name
        assert re.fullmatch(r"\d+[mg]", service["mem_limit"]), name
        assert service["pids_limit"] <= 256, name
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL"), name
        assert {"max-size", "max-file"} <= service["logging"]["options"].keys(), name


def test_images_of_others_are_pinned() -> None:
    images = [service["image"] for service in compose()["services"].values() if "build" not in service]
    assert len(images) == 4
    assert [image for image in images if not re.search(r":v?\d+\.\d+\.\d+(-[a-z]+)?$", image)] == []


def test_only_this_machine_reaches_what_is_published_and_only_the_load_balancer_can_be_opened() -> None:
    ports = {name: service["ports"] for name, service in compose()["services"].items() if "ports" in service}
    assert ports.pop("load-balancer") == ["${PUBLISH_ON:-127.0.0.1}:8000:8000"]
    assert ports.keys() == {"prometheus", "grafana"}
    assert [port for given in ports.values() for port in given if not port.startswith("127.0.0.1:")] == []


def test_prometheus_and_grafana_are_left_out_unless_asked_for() -> None:
    optional = {name for name, service in compose()["services"].items() if service.get("profiles")}
    assert optional == {"prometheus", "grafana"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the compose file once the secrets were made."""
    folder = tmp_path_factory.mktemp("deploy") / "deploy"
    shutil.copytree(DEPLOY, folder)
    make_secrets(folder)
    return folder


def make_secrets(folder: Path) -> str:
    return subprocess.run([folder / "make_secrets.sh"], check=True, capture_output=True, text=True, cwd="/").stdout


def test_the_secrets_that_compose_needs_are_made_and_only_their_owner_reaches_them(made: Path) -> None:
    wanted = {made / secret["file"] for file in COMPOSE_FILES for secret in compose(file)["secrets"].values()}
    assert set((made / "secrets").iterdir()) == wanted
    assert stat.S_IMODE((made / "secrets").stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in wanted} == {0o444}, "containers run as users of their own"
    for file in COMPOSE_FILES:
        used = {name for service in compose(file)["services"].values() for name in service.get("secrets", [])}
        assert used == compose(file)["secrets"].keys()
    ignored = (DEPLOY / ".gitignore").read_text().split()
    assert "secrets/" in ignored


def test_secrets_that_are_there_stay_and_those_that_were_made_differ(made: Path) -> None:
    before = {file.name: file.read_text() for file in (made / "secrets").iterdir()}
    assert make_secrets(made) == ""
    assert {file.name: file.read_text() for file in (made / "secrets").iterdir()} == before
    assert len(set(before.values())) == len(before)
    assert before["redis_password"].strip() in before["redis_url"]
    assert before["metrics_token"].strip() in before["api_read_tokens"]


def test_no_secret_stands_in_the_environment_or_on_a_command_line_of_compose() -> None:
    for name, service in [each for file in COMPOSE_FILES for each in compose(file)["services"].items()]:
        for variable, value in service.get("environment", {}).items():
            is_secret = re.search(r"SECRET|TOKEN|PASSWORD|_URL", variable)
            assert not is_secret or (variable.endswith("FILE") and value.startswith("/run/secrets/")), (name, variable)
        assert "requirepass $" not in str(service.get("command")), name


def replica_environment(folder: Path) -> dict[str, str]:
    environment = compose()["services"]["replica-a"]["environment"]
    return {name: value.replace("/run/secrets", f"{folder}/secrets") for name, value in environment.items()}


def test_the_replicas_of_compose_start_with_their_settings(made: Path) -> None:
    environment = replica_environment(made)
    settings = load_settings(environment)
    assert {name.removesuffix("_FILE") for name in environment} <= {name.upper() for name in Settings.__struct_fields__}
    assert settings.redis_url.endswith("@redis:6379/0")
    assert settings.vapi_webhook_secret
    assert settings.api_admin_tokens
    assert len(settings.api_read_tokens) == 2
    assert settings.spool_dir == last("VOLUME")


def test_the_replicas_of_compose_find_the_archive_that_is_added(made: Path) -> None:
    services = compose("compose.archive.yaml")["services"]
    postgres = services["postgres"]["environment"]
    [password] = (made / "secrets" / "postgres_password").read_text().split()
    for name in REPLICAS:
        added = services[name]["environment"]
        settings = load_settings({variable: value.replace("/run", str(made)) for variable, value in added.items()})
        assert settings.database_url is not None
        database = f"{postgres['POSTGRES_USER']}:{password}@postgres/{postgres['POSTGRES_DB']}"
        assert settings.database_url.reveal() == f"postgresql://{database}"


def test_the_parts_of_compose_find_one_another() -> None:
    services = compose()["services"]
    preset = dict(re.findall(r"presetenv (\S+) (\S+)", CONFIGURATION.read_text()))
    assert [preset["REPLICA_A"], preset["REPLICA_B"]] == [f"{name}:{last('EXPOSE')}" for name in REPLICAS]
    balancer = services["load-balancer"]
    assert balancer["ports"][0].endswith(":8000" + preset["LISTEN"])
    for name in REPLICAS:
        trusted = services[name]["environment"]["FORWARDED_ALLOW_IPS"]
        assert trusted == balancer["networks"]["calls"]["ipv4_address"]
    mounted = [volume.split(":")[0] for service in services.values() for volume in service["volumes"]]
    assert all((DEPLOY / source).exists() for source in mounted if source.startswith("./"))
    assert {source for source in mounted if not source.startswith("./")} == set(compose()["volumes"])


def test_prometheus_scrapes_each_replica_with_a_token_of_its_own() -> None:
    [scraped] = YAML(typ="safe").load(DEPLOY / "prometheus" / "prometheus.yml")["scrape_configs"]
    assert scraped["authorization"] == {"credentials_file": "/run/secrets/metrics_token"}
    assert scraped["static_configs"][0]["targets"] == [f"{name}:{last('EXPOSE')}" for name in REPLICAS]
    assert compose()["services"]["prometheus"]["secrets"] == ["metrics_token"]


def test_the_load_balancer_is_healthy_while_a_replica_answers_through_it() -> None:
    [_, *command] = compose()["services"]["load-balancer"]["healthcheck"]["test"]

    def is_healthy(balancer: LoadBalancer) -> bool:
        words = [word.replace("8000", str(balancer.port)).replace("$$", "$") for word in command]
        return subprocess.run(words, check=False, capture_output=True, timeout=START_S).returncode == 0

    nobody = LoadBalancer(free_port(), free_port())
    nobody.start()
    assert not is_healthy(nobody)
    nobody.stop()
    assert not is_healthy(nobody)
    replica = Replica().start()
    balancer = LoadBalancer(replica.port, free_port())
    balancer.start()
    try:
        eventually_sync(lambda: is_healthy(balancer))
    finally:
        balancer.stop()
        replica.stop()


def test_whoever_waits_waits_longer_than_what_is_waited_for() -> None:
    timeouts = dict(re.findall(r"^    timeout (\S+) (\d+)s", CONFIGURATION.read_text(), re.MULTILINE))
    settings = Settings()
    assert int(timeouts["server"]) > settings.max_wait_s + settings.store_timeout_s
    assert int(compose()["x-replica"]["stop_grace_period"].rstrip("s")) > settings.drain_s + GRACEFUL_S


def test_the_polls_of_one_kestra_fit_through_the_load_balancer_and_two_addresses_cannot_fill_it() -> None:
    text = CONFIGURATION.read_text()
    [bound] = re.findall(r"presetenv MAX_CONNECTIONS_PER_ADDRESS (\d+)", text)
    [files] = re.findall(r"fd-hard-limit (\d+)", text)
    assert int(files) < compose()["services"]["load-balancer"]["ulimits"]["nofile"]
    # 5,000 parked polls are what the service's speed is promised for. A connection takes two files, one to each side.
    assert 5_000 < int(bound) < int(files) / 2 / 3


@pytest.fixture
def redis_as_shipped(made: Path, tmp_path: Path) -> Iterator[RedisProcess]:
    """Started by the command of the compose file, with this machine's paths."""
    port = free_port()
    (tmp_path / "redis.conf").write_text(
        (DEPLOY / "redis.conf").read_text() + f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\n"
    )
    command = [
        word.replace("$$", "$")
        .replace("/run/secrets", f"{made}/secrets")
        .replace("/usr/local/etc/redis", str(tmp_path))
        .replace("/tmp/password.conf", f"{tmp_path}/password.conf")
        for word in compose()["services"]["redis"]["command"]
    ]
    server = RedisProcess(port=port, folder=tmp_path, command=command).start()
    yield server
    server.stop()


def test_redis_keeps_what_it_took_refuses_strangers_and_evicts_nothing(
    redis_as_shipped: RedisProcess, made: Path
) -> None:
    password = (made / "secrets" / "redis_password").read_text().strip()
    assert password not in Path(f"/proc/{redis_as_shipped.pid}/cmdline").read_text()
    once = Retry(NoBackoff(), 0)
    with redis.Redis(port=redis_as_shipped.port, retry=once) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    with redis.Redis(port=redis_as_shipped.port, password=password) as client:
        client.set("taken", "1")
        redis_as_shipped.kill()
        redis_as_shipped.start()
        client.config_set("maxmemory", 1)
        with pytest.raises(redis.OutOfMemoryError):
            client.set("too much", "x")
        assert client.get("taken") == b"1"
