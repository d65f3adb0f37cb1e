"""The routes that the tests ask, spelled out: whoever renames one in the service should notice."""

from __future__ import annotations

from typing import Final

WEBHOOK: Final = "/api/v1/vapi/webhook"
BOTH_WEBHOOKS: Final = (WEBHOOK, "/api/v1/vapi/webhooks/vapi")
CALLS: Final = "/api/v1/vapi/calls/"
BY_PHONE: Final = "/api/v1/vapi/calls/by-phone/"
PLACE: Final = "/api/v1/vapi/calls"
BATCH: Final = "/api/v1/vapi/calls/batch"
STATS: Final = "/api/v1/vapi/cache/stats"
EVENTS: Final = "/api/v1/vapi/events"
