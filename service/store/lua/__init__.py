"""The scripts that read or change several keys in one atomic step. Each opens with its contract."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from service.redis_client.script import Script

RESUME_WAITING: Final = "resume_waiting.lua"
"""One function, shared by all scripts that make a call final or gone."""


def load_script(name: str, *, uses: str | None = None) -> Script:
    """A script of this folder, preceded by the file whose function it ``uses``."""
    folder = files(__name__)
    return Script(b"".join(folder.joinpath(part).read_bytes() for part in (uses, name) if part))
