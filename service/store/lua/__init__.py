"""The scripts that read or change several keys in one atomic step. Each opens with its contract."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from service.redis_client.script import Script

_FIELDS: Final = "record_fields.lua"
_LIFE: Final = "record_life.lua"
_HOLD: Final = "hold_record.lua"
_RESUME_WAITING: Final = "resume_waiting.lua"

_USED: Final[dict[str, tuple[str, ...]]] = {
    "archive_done.lua": (_FIELDS, _LIFE, _HOLD),
    "archive_give_up.lua": (_FIELDS, _LIFE, _HOLD),
    "ask_vapi.lua": (_FIELDS, _RESUME_WAITING),
    "delete_call.lua": (_FIELDS, _LIFE, _RESUME_WAITING),
    "look_at_callbacks.lua": (_FIELDS, _LIFE, _HOLD),
    "merge_call.lua": (_FIELDS, _LIFE, _RESUME_WAITING, "take_facts.lua", "write_indices.lua"),
    "subscribe.lua": (_FIELDS, _LIFE),
}
"""The files whose functions a script uses, in the order in which they stand before it. Each file may use those before."""


def load_script(name: str) -> Script:
    """A script of this folder, preceded by the functions that it uses."""
    folder = files(__name__)
    return Script(b"".join(folder.joinpath(part).read_bytes() for part in (*_USED.get(name, ()), name)))
