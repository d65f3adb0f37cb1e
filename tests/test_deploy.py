"""What we ship for deploying works: the image's steps and command, and what we set for Compose, Redis and HAProxy.

No container engine is needed: the image's build steps run in a folder, Redis and HAProxy as programs of this machine.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from fnmatch import fnmatch
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
from tests.support.load_balancer import CONFIGURATION
from tests.support.redis_server import RedisProcess, free_port
from tests.support.replica import ROOT, START_S

DEPLOY = ROOT / "deploy"
REPLICAS = ("replica-a", "replica-b")
VARIABLE = re.compile(r"\$\{([A-Z_]+)([^}]*)\}")


def dockerfile() -> list[tuple[str, str]]:
    """Its instructions, in order."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines if line)]


def last(instruction: str) -> str:
    return [rest for name, rest in dockerfile() if name == instruction][-1]


def health_command() -> list[str]:
    command: list[str] = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    return command


def is_ignored(path: Path) -> bool:
    """Whether .dockerignore keeps it from the build."""
    parts = path.relative_to(ROOT).parts
    patterns = (ROOT / ".dockerignore").read_text().split()
    if f"!{path.relative_to(ROOT)}" in patterns:
        return False
    for pattern in patterns:
        if pattern.startswith("**/"):
            if any(fnmatch(part, pattern[3:]) for part in parts):
                return True
        elif fnmatch(parts[0], pattern):
            return True
    return False


def copy_to_build(names: list[str], folder: Path) -> None:
    for name in names:
        source = ROOT / name
        assert not is_ignored(source), f"{name} does not reach the build"
        if source.is_dir():
            shutil.copytree(
                source, folder / name, ignore=lambda at, found: [one for one in found if is_ignored(Path(at) / one)]
            )
        else:
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(source, folder / name)


def compose() -> Any:
    return YAML(typ="safe").load(DEPLOY / "compose.yaml")


def filled_in(text: str) -> str:
    return VARIABLE.sub(lambda found: f"value-of-{found[1].lower()}", text)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image's root, as far as the build stage fills it: its steps, with this Python and in a folder."""
    root = tmp_path_factory.mktemp("image")
    environment = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    environment["PIP_NO_COMPILE"] = "1"  # Python compiles what is imported, which is a tenth of it
    workdir = root
    for name, rest in dockerfile()[1:]:
        if name == "FROM":
            break
        if name == "WORKDIR":
            workdir = root / rest.lstrip("/")
            workdir.mkdir()
        elif name == "COPY":
            *sources, target = rest.split()
            assert target in ("./", "./" + sources[0])
            copy_to_build(sources, workdir)
        else:
            assert name == "RUN"
            command = shlex.split(rest.replace("/opt/", f"{root}/opt/"))
            subprocess.run(command, cwd=workdir, env=environment, check=True, capture_output=True, timeout=600)
    return root


def test_the_image_has_the_operations_page_and_the_runbook(image: Path) -> None:
    (page,) = image.glob("opt/vapi-cache/lib/python3*/site-packages/service/api/ops_page")
    assert {path.name for path in page.iterdir()} >= {"ops.html", "ops.css", "ops.js", "ops.svg", "RUNBOOK.md"}


def test_the_image_serves_is_healthy_and_stops_on_sigterm(image: Path, tmp_path: Path) -> None:
    given = dict(part.split("=", 1) for part in shlex.split(last("ENV").replace("/opt/", f"{image}/opt/")))
    secrets = {"VAPI_WEBHOOK_SECRET": "s", "API_READ_TOKENS": "r", "API_ADMIN_TOKENS": "a"}
    environment = {**given, **secrets, "PATH": given["PATH"].replace("$PATH", os.environ["PATH"])}
    environment["PORT"] = str(free_port())

    def run(command: list[str]) -> subprocess.CompletedProcess[bytes]:
        program = shutil.which(command[0], path=environment["PATH"])
        assert program is not None
        assert program.startswith(str(image))
        return subprocess.run([program, *command[1:]], cwd=tmp_path, env=environment, capture_output=True, check=False)

    assert run(health_command()).returncode != 0, "nothing serves yet"
    program = f"{image}/opt/vapi-cache/bin/python"
    command = json.loads(last("CMD"))
    process = subprocess.Popen([program, *command[1:]], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_S
        while run(health_command()).returncode != 0:
            assert process.poll() is None
            assert time.monotonic() < deadline
        ready = [part.replace("8000", environment["PORT"]) for part in compose()["x-replica"]["healthcheck"]["test"]]
        assert run(ready[1:]).returncode == 0
        sent = run(
            [*command, "send-webhook", "--call-id", "in-image-1", "--url", f"http://127.0.0.1:{environment['PORT']}"]
        )
        assert sent.returncode == 0, sent
        process.send_signal(getattr(signal, last("STOPSIGNAL")))
        assert process.wait(timeout=START_S) == 0
    finally:
        process.kill()
        process.wait()


def test_the_image_runs_as_a_user_that_owns_the_spool() -> None:
    user, group = last("USER").split(":")
    assert int(user) > 0
    assert f"install -d -o {user} -g {group} -m 0700 {last('VOLUME')}" in last("RUN")
    assert compose()["x-replica"]["environment"]["SPOOL_DIR"] == last("VOLUME")


def test_the_compose_file_is_one() -> None:
    check = ["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(DEPLOY / "compose.yaml")]
    done = subprocess.run([sys.executable, *check], capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout.decode()


def test_what_has_to_be_filled_in_stops_the_start_when_it_is_not() -> None:
    used = VARIABLE.findall((DEPLOY / "compose.yaml").read_text())
    documented = re.findall(r"^([A-Z_]+)=$", (DEPLOY / ".env.example").read_text(), re.MULTILINE)
    assert {name for name, _ in used} == set(documented)
    assert all(rest.startswith(":?") for _, rest in used)


def test_the_replicas_of_compose_start_with_their_settings() -> None:
    environment = compose()["services"]["replica-a"]["environment"]
    settings = load_settings({name: filled_in(value) for name, value in environment.items()})
    assert set(environment) <= {name.upper() for name in Settings.__struct_fields__}
    assert settings.redis_url == "redis://:value-of-redis_password@redis:6379/0"
    assert settings.has_credentials


def test_the_parts_of_compose_find_one_another() -> None:
    services = compose()["services"]
    preset = dict(re.findall(r"presetenv (\S+) (\S+)", CONFIGURATION.read_text()))
    assert [preset["REPLICA_A"], preset["REPLICA_B"]] == [f"{name}:{last('EXPOSE')}" for name in REPLICAS]
    balancer = services["load-balancer"]
    assert balancer["ports"] == ["8000" + preset["LISTEN"]]
    for name in REPLICAS:
        trusted = services[name]["environment"]["FORWARDED_ALLOW_IPS"]
        assert trusted == balancer["networks"]["calls"]["ipv4_address"]
    mounted = [volume.split(":")[0] for service in services.values() for volume in service["volumes"]]
    assert all((DEPLOY / source).is_file() for source in mounted if source.startswith("./"))
    assert {source for source in mounted if not source.startswith("./")} == set(compose()["volumes"])


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
def redis_as_shipped(tmp_path: Path) -> Iterator[RedisProcess]:
    port = free_port()
    here = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path), "--requirepass", "pw"]
    command = ["redis-server", str(DEPLOY / "redis.conf"), *here]
    server = RedisProcess(port=port, folder=tmp_path, command=command).start()
    yield server
    server.stop()


def test_redis_keeps_what_it_took_refuses_strangers_and_evicts_nothing(redis_as_shipped: RedisProcess) -> None:
    once = Retry(NoBackoff(), 0)
    with redis.Redis(port=redis_as_shipped.port, retry=once) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    with redis.Redis(port=redis_as_shipped.port, password="pw") as client:
        client.set("taken", "1")
        redis_as_shipped.kill()
        redis_as_shipped.start()
        client.config_set("maxmemory", 1)
        with pytest.raises(redis.OutOfMemoryError):
            client.set("too much", "x")
        assert client.get("taken") == b"1"
