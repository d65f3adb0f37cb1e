"""The scripts that change what several keys hold in one step. Each opens with its contract."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from service.redis_client.script import Script

RESUME_WAITING: Final = "resume_waiting.lua"
"""One function, shared by all scripts after which nobody needs to wait for a call any more."""


def load_script(name: str, *, uses: str | None = None) -> Script:
    """A script of this folder, behind the one whose function it ``uses``."""
    folder = files(__name__)
    return Script(b"".join(folder.joinpath(part).read_bytes() for part in (uses, name) if part))
