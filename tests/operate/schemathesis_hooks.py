"""Loaded by schemathesis itself.

Each request comes from an address of its own, as 31 wrong tokens of one are 429. Streams end soon.
"""

from __future__ import annotations

import itertools
from typing import Any

import schemathesis

from service.api.poll_request import SECONDS

_numbers = itertools.count(1)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    number = next(_numbers)
    case.headers["X-Forwarded-For"] = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    if case.path.endswith("/events") and SECONDS.fullmatch(str(case.query.get("wait", "0"))):
        case.query["wait"] = "0.1"
