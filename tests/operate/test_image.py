"""The image serves and holds what the lock names: the Dockerfile's steps run in a folder, without a container engine."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from ruamel.yaml import YAML

from service import __version__
from service.api.ops import FILES, RUNBOOK
from tests.support.image import build, environment_of_image, instructions, last, stages
from tests.support.ports import free_port
from tests.support.replica import ROOT, START_S

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
OTEL = PROJECT["project"]["optional-dependencies"]["otel"]
SECRETS = {"VAPI_WEBHOOK_SECRET": "s", "API_READ_TOKENS": "r", "API_ADMIN_TOKENS": "a"}
BASE = re.compile(r"^python:3\.13\.\d+-slim-[a-z]+@sha256:[0-9a-f]{64} AS base$")


def locked(lock: str) -> dict[str, str]:
    """The lock's versions, by package."""
    found = re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / lock).read_text(), re.MULTILINE)
    return dict(found)


def health_command() -> list[str]:
    command: list[str] = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    return command


def ready_command() -> list[str]:
    compose: Any = YAML(typ="safe").load(ROOT / "deploy" / "compose.yaml")
    command: list[str] = compose["x-replica"]["healthcheck"]["test"][1:]
    return command


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image's root, as far as the build stage fills it."""
    root = tmp_path_factory.mktemp("image")
    build(root)
    return root


def on_a_read_only_root(command: list[str]) -> list[str]:
    """The command in a mount namespace where nothing can be written; unchanged where the system allows none."""
    unshare = ["unshare", "--mount", "sh", "-c"]
    closed = "mount --make-rprivate / && mount -o bind,ro / / && mount -o remount,bind,ro / && "
    trial = subprocess.run([*unshare, closed + "! touch /tmp/x"], check=False, capture_output=True)
    return [*unshare, closed + 'exec "$@"', "sh", *command] if trial.returncode == 0 else command


def test_the_image_serves_is_healthy_and_stops_on_sigterm(image: Path, tmp_path: Path) -> None:
    environment = {**environment_of_image(image), **SECRETS, "PORT": str(free_port())}

    def found(command: list[str]) -> list[str]:
        program = shutil.which(command[0], path=environment["PATH"])
        assert program is not None
        assert program.startswith(str(image)), program
        return [program, *command[1:]]

    def run(command: list[str]) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(found(command), cwd=tmp_path, env=environment, capture_output=True, check=False)

    assert run(health_command()).returncode != 0, "nothing serves yet"
    command = json.loads(last("CMD"))
    process = subprocess.Popen(on_a_read_only_root(found(command)), cwd="/", env=environment, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_S
        while run(health_command()).returncode != 0:
            assert process.poll() is None
            assert time.monotonic() < deadline
        assert run([part.replace("8000", environment["PORT"]) for part in ready_command()]).returncode == 0
        url = f"http://127.0.0.1:{environment['PORT']}"
        sent = run(["python", "-m", "service", "send-webhook", "--call-id", "in-image-1", "--url", url])
        assert sent.returncode == 0, sent
        process.send_signal(getattr(signal, last("STOPSIGNAL")))
        assert process.wait(timeout=START_S) == 0
    finally:
        process.kill()
        process.wait()


def test_the_image_has_the_operations_page_and_the_runbook(image: Path) -> None:
    (page,) = image.glob("opt/vapi-cache/lib/python3*/site-packages/service/api/ops_page")
    assert {path.name for path in page.iterdir()} >= {*FILES} - {RUNBOOK} | {"ops.html", "RUNBOOK.md"}


def test_the_console_script_is_the_module(image: Path) -> None:
    environment = environment_of_image(image)
    for command in (
        [f"{image}/opt/vapi-cache/bin/vapi-cache"],
        [f"{image}/opt/vapi-cache/bin/python", "-m", "service"],
    ):
        done = subprocess.run([*command, "--version"], cwd="/", env=environment, capture_output=True, check=False)
        assert (done.returncode, done.stdout.decode().strip()) == (0, __version__)


def test_the_image_holds_what_the_lock_names_and_nothing_that_builds_it(image: Path) -> None:
    folders = (image / "opt" / "vapi-cache" / "lib").glob("python*/site-packages/*.dist-info")
    installed = {str(canonicalize_name(name)): version for name, _, version in (f.stem.partition("-") for f in folders)}
    assert installed.pop("vapi-cache") == __version__
    lock = locked("requirements.lock")
    assert installed.items() <= lock.items()
    here = {canonicalize_name(Requirement(line).name) for line in PROJECT["project"]["dependencies"]}
    assert here <= installed.keys()


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("requirements.lock", PROJECT["project"]["dependencies"]),
        ("requirements-otel.lock", [*PROJECT["project"]["dependencies"], *OTEL]),
        ("requirements-build.lock", PROJECT["build-system"]["requires"]),
    ],
)
def test_the_lock_fits_the_project(lock: str, wanted: list[str]) -> None:
    """If not, ``make lock`` was forgotten."""
    versions = locked(lock)
    requirements = [Requirement(line) for line in wanted]
    stale = [str(one) for one in requirements if not one.specifier.contains(versions.get(one.name, Version("0")))]
    assert stale == []


def test_with_the_extra_the_rest_stays_what_it_is() -> None:
    assert locked("requirements.lock").items() <= locked("requirements-otel.lock").items()


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-otel.lock", "requirements-build.lock"])
def test_the_lock_names_hashes_and_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text()
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(locked(lock)) > 4
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in text
    assert "--index" not in text
    assert "--find-links" not in text


def test_what_the_image_installs_is_held_by_a_hash() -> None:
    commands = [
        part for name, rest in instructions() if name == "RUN" for part in rest.split("&&") if "install" in part
    ]
    pip = [part for part in commands if " pip " in part]
    assert len(pip) == 3
    for part in pip:
        is_ours = "--no-index --no-deps dist/*.whl" in part
        assert is_ours or "--only-binary=:all: --require-hashes --requirement" in part, part


def test_there_is_one_base_image_and_it_is_pinned() -> None:
    bases = [rest for name, rest in instructions() if name == "FROM"]
    assert BASE.match(bases[0])
    assert [base.split()[0] for base in bases[1:]] == ["base", "base"]


def test_the_image_runs_as_a_user_that_owns_the_spool() -> None:
    user, group = last("USER").split(":")
    assert int(user) > 0
    assert f"install -d -o {user} -g {group} -m 0700 {last('VOLUME')}" in last("RUN")
    names = [name for name, _ in stages()["image"]]
    assert "RUN" not in names[names.index("USER") :], "nothing is installed as that user"


def test_the_image_carries_no_secret() -> None:
    assert not re.search(r"(SECRET|TOKEN|PASSWORD|KEY)\w*=", (ROOT / "Dockerfile").read_text())
    assert [name for name, _ in instructions() if name in ("ARG", "ADD")] == []


def test_the_entry_point_is_installed_with_the_project() -> None:
    assert PROJECT["project"]["scripts"] == {json.loads(last("CMD"))[0]: "service.cli.main:main"}
