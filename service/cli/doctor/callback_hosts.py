"""Looks up the hosts that callbacks may go to. Nothing is sent there."""

from __future__ import annotations

from functools import partial

from service.callback_url import CallbackUrl, parse_callback_url
from service.cli.doctor.checking import Check
from service.cli.doctor.findings import Finding, ok, warning
from service.config import Settings
from service.errors import UpstreamError
from service.name_lookup import NameLookup


def callback_checks(settings: Settings) -> list[Check]:
    """One for each host and port of ``CALLBACK_ALLOWED_PREFIXES``."""
    prefixes = [parse_callback_url(prefix) for prefix in settings.callback_allowed_prefixes]
    if not prefixes:
        return [Check("callbacks", _find_none)]
    return [Check("host", partial(_look_up, url)) for url in {url.origin: url for url in prefixes}.values()]


async def _find_none() -> list[Finding]:
    return [ok("callbacks", "CALLBACK_ALLOWED_PREFIXES is not set: no callback can be subscribed")]


async def _look_up(url: CallbackUrl) -> list[Finding]:
    try:
        await NameLookup().find_addresses(url)
    except UpstreamError as exc:
        advice = "check the name; for an address in your own network see “Callbacks” in deploy/README.md"
        return [warning("host", f"{url.origin}: {exc}; its callbacks are not delivered", advice)]
    return [ok("host", f"{url.origin} leads to addresses that callbacks may go to")]
