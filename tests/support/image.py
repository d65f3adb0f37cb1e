"""The Dockerfile, read and followed without a container engine: its build stage in a folder, with this Python."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from tests.support.replica import ROOT

DOCKERFILE: Final = ROOT / "Dockerfile"

Instruction = tuple[str, str]


def instructions(dockerfile: Path = DOCKERFILE) -> list[Instruction]:
    """Its instructions in order, without comments and with continued lines joined."""
    text = re.sub(r"^#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines if line)]


def stages() -> dict[str, list[Instruction]]:
    """The instructions of each stage after its FROM, by the stage's name; the last stage, which has none, is "image"."""
    found: dict[str, list[Instruction]] = {}
    for name, rest in instructions():
        if name == "FROM":
            current: list[Instruction] = []
            found[rest.partition(" AS ")[2] or "image"] = current
        else:
            current.append((name, rest))
    return found


def last(instruction: str) -> str:
    """What the image's stage says last."""
    return [rest for name, rest in stages()["image"] if name == instruction][-1]


def environment_of_image(root: Path) -> dict[str, str]:
    """The variables that the image sets, with its own folders found under ``root``."""
    given = dict(part.split("=", 1) for part in shlex.split(last("ENV").replace("/opt/", f"{root}/opt/")))
    return {**given, "PATH": given["PATH"].replace("$PATH", os.environ["PATH"])}


def build(root: Path) -> None:
    """Follow the build stage as if ``root`` were the image's ``/``."""
    workdir = root
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for name, rest in stages()["build"]:
        if name == "WORKDIR":
            workdir = root / rest.lstrip("/")
            workdir.mkdir()
        elif name == "COPY":
            *sources, target = rest.split()
            assert target in ("./", "./" + sources[0])
            _copy(sources, workdir, is_renamed=target != "./")
        else:
            assert name == "RUN", name
            _run(rest.replace("/opt/", f"{root}/opt/"), workdir, {**os.environ, "PATH": path})


def _run(command: str, workdir: Path, environment: Mapping[str, str]) -> None:
    # Python compiles what is imported, which is a tenth of it.
    done = subprocess.run(
        ["sh", "-c", command], cwd=workdir, env={**environment, "PIP_NO_COMPILE": "1"},
        check=False, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def _copy(names: list[str], folder: Path, *, is_renamed: bool) -> None:
    """``is_renamed``: to the same path as here; else a file goes into the folder itself."""
    for name in names:
        source = ROOT / name
        assert not is_ignored(source), f"{name} does not reach the build"
        if source.is_dir():
            shutil.copytree(
                source, folder / name, ignore=lambda at, found: [one for one in found if is_ignored(Path(at) / one)]
            )
        else:
            target = folder / (name if is_renamed else source.name)
            target.parent.mkdir(exist_ok=True)
            shutil.copy(source, target)


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
