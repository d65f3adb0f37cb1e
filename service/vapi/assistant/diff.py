"""Compares the assistant saved in VAPI with the one we would save. Pure."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Final

VAPIS_OWN: Final = frozenset(
    {"id", "orgId", "createdAt", "updatedAt", "latestVersion", "modelDeprecations", "isServerUrlSecretSet"}
)
"""Fields that VAPI itself adds to an assistant."""

HIDDEN: Final = "***"
HIDDEN_OTHER: Final = "*** (another value)"


def diff_of(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """A unified diff from VAPI's assistant to ours; "" when they agree. It hides secrets but shows that they differ.

    Null counts as absent. We know of no default that VAPI fills in; a new one would show up in the diff.
    """
    before = _lines(_hide(theirs, ours))
    after = _lines(_hide(ours, ours))
    return "".join(difflib.unified_diff(before, after, "at VAPI", "here"))


def hide_secrets(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with the values of its server's headers hidden."""
    return _hide(config, config)


def _hide(config: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    hidden = {name: value for name, value in config.items() if name not in VAPIS_OWN}
    headers = _headers_of(config)
    if headers:
        known = _headers_of(ours)
        hidden["server"] = deepcopy(config["server"])
        hidden["server"]["headers"] = {
            name: HIDDEN if known.get(name) == value else HIDDEN_OTHER for name, value in headers.items()
        }
    return hidden


def _headers_of(config: Mapping[str, Any]) -> dict[str, Any]:
    server = config.get("server")
    headers = server.get("headers") if isinstance(server, dict) else None
    return headers if isinstance(headers, dict) else {}


def _lines(config: Mapping[str, Any]) -> list[str]:
    text = json.dumps(_without_nulls(config), indent=2, sort_keys=True, ensure_ascii=False)
    # The prompt is one long string. Split it into lines, so that the diff shows only the changed sentences.
    return [line + "\n" for line in text.replace("\\n", "\n").splitlines()]


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nulls(each) for name, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list | tuple) else value
