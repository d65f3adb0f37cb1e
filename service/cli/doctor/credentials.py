"""Judges which of our own doors have a lock. Pure."""

from __future__ import annotations

from service.cli.doctor.checking import Check
from service.cli.doctor.findings import Finding, error, ok, warning
from service.config import Settings


def settings_checks(settings: Settings) -> list[Check]:
    async def find() -> list[Finding]:
        return [judge_credentials(settings)]

    return [Check("credentials", find)]


def judge_credentials(settings: Settings) -> Finding:
    if settings.is_open:
        found = "no secret and no token is set: whoever reaches the service may do everything but place calls"
        return warning("credentials", found, "set VAPI_WEBHOOK_SECRET, API_READ_TOKENS and API_ADMIN_TOKENS")
    if not settings.vapi_webhook_secret:
        found = "VAPI_WEBHOOK_SECRET is not set and tokens are: every webhook is refused"
        return error("credentials", found, "set it, and give the same secret to VAPI")
    if not (settings.api_read_tokens or settings.api_admin_tokens):
        found = "no token is set and a webhook secret is: every poll is refused"
        return error("credentials", found, "set API_READ_TOKENS, and API_ADMIN_TOKENS for placing, deleting and stats")
    if not settings.api_admin_tokens:
        return ok("credentials", "webhooks and polls are proven; without API_ADMIN_TOKENS nobody deletes or places")
    return ok("credentials", "webhooks, polls and administration are proven")
