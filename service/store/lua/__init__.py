"""The scripts that read or change several keys in one atomic step. Each opens with its contract."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from service.redis_client.script import Script

_RESUME_WAITING: Final = "resume_waiting.lua"
_RECORD_LIFE: Final = "record_life.lua"

_USED: Final[dict[str, tuple[str, ...]]] = {
    "archive_done.lua": (_RECORD_LIFE,),
    "archive_give_up.lua": (_RECORD_LIFE,),
    "ask_vapi.lua": (_RESUME_WAITING,),
    "delete_call.lua": (_RESUME_WAITING, _RECORD_LIFE),
    "look_at_callbacks.lua": (_RECORD_LIFE,),
    "merge_call.lua": (_RESUME_WAITING, _RECORD_LIFE),
    "subscribe.lua": (_RECORD_LIFE,),
}
"""The files whose functions a script uses. They are sent before it."""


def load_script(name: str) -> Script:
    """A script of this folder, preceded by the functions that it uses."""
    folder = files(__name__)
    return Script(b"".join(folder.joinpath(part).read_bytes() for part in (*_USED.get(name, ()), name)))
