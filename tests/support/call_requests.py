"""A call request as a caller would write it."""

from __future__ import annotations

from typing import Any, Final

from service.calls.call_request import CallRequest, decode_call_request

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


def call_request(**changes: Any) -> CallRequest:
    """The required fields, and these in their own spelling."""
    return decode_call_request(REQUIRED | changes)
