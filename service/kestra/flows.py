"""The flows of deploy/kestra, and a flow as Kestra shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

REVISION_LABEL: Final = "vapi_cache_revision"
"""Each shipped flow has this label. It outlives edits that people are told to make, such as another ``service_url``."""

SHIPPED: Final[Mapping[str, str]] = {
    "call_provider": "6344a2040b86",
    "call_providers": "ef03ecc8a750",
    "wait_events": "99864ea9d1aa",
    "on_call_finished": "4d64711e7974",
    "wait_long_poll": "a2bfb0b30d1f",
    "wait_loop": "0692b5b02444",
    "wait_pause_resume": "e2e81dc161b0",
}
"""The revision of each: a hash of its file, see tests/test_flows.py, which says what to write here after a change."""


class Flow(msgspec.Struct, frozen=True):
    revision: str | None
    """By its label; None for a flow that is not ours, or older than the label."""
    is_disabled: bool


class _Label(msgspec.Struct, frozen=True):
    key: str
    value: Any = None


class FlowAnswer(msgspec.Struct, frozen=True):
    """https://kestra.io/docs/api-reference/open-source: labels come as a list, and in a flow's source as a map."""

    id: str
    disabled: bool = False
    labels: list[_Label] | dict[str, Any] | None = None


def flow_of(answer: FlowAnswer) -> Flow:
    labels = answer.labels or {}
    by_key = labels if isinstance(labels, dict) else {label.key: label.value for label in labels}
    revision = by_key.get(REVISION_LABEL)
    return Flow(None if revision is None else str(revision), answer.disabled)
