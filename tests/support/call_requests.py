"""Call requests as callers would write them, and the calls that came of them."""

from __future__ import annotations

import itertools
from typing import Any, Final

from service.calls.call_request import CallRequest, decode_call_request
from tests.support.fake_vapi import FakeVapi

REQUIRED: Final[dict[str, str]] = {
    "providerName": "Acme Plumbing",
    "providerPhone": "+18641234567",
    "serviceNeeded": "replace a water heater",
    "userCriteria": "licensed\ninsured\nten years of experience",
    "location": "Greenville, South Carolina",
    "urgency": "within_2_days",
}

OPTIONAL: Final[dict[str, str]] = {
    "problemDescription": "It leaks since yesterday.",
    "clientName": "Jane Doe",
    "clientAddress": "12 Main Street",
    "serviceRequestId": "request-42",
    "providerId": "provider-7",
    "customPrompt": "Ask whether they haul the old one away.",
}

FULL: Final[dict[str, str]] = REQUIRED | OPTIONAL


_numbers = itertools.count(1)


def new_request(**fields: Any) -> dict[str, Any]:
    """A call request for a number that no other test has dialled."""
    return {**REQUIRED, "providerPhone": f"+1864555{next(_numbers):04d}", **fields}


def calls_to(vapi: FakeVapi, number: str) -> list[str]:
    return [call_id for call_id, call in vapi.calls.items() if call["customer"]["number"] == number]


def call_request(**changes: Any) -> CallRequest:
    """The required fields, and these in their own spelling."""
    return decode_call_request(REQUIRED | changes)
