"""The service's addresses as VAPI and callers use them, and how addresses are shown."""

from __future__ import annotations

from typing import Final
from urllib.parse import SplitResult, urlsplit

from service.cli.connecting import own_url
from service.config import Settings

WEBHOOK_PATHS: Final = ("/api/v1/vapi/webhook", "/api/v1/vapi/webhooks/vapi")


def is_webhook_url(url: str) -> bool:
    """Whether the path is that of our webhook, perhaps below a prefix that a proxy takes off."""
    return _path(urlsplit(url)).endswith(WEBHOOK_PATHS)


def addresses_of(settings: Settings, url: str | None) -> tuple[str, str]:
    """Where the webhook goes, and the base URL of the other routes.

    ``url`` is a base URL and wins over ``VAPI_WEBHOOK_URL``. Without both it is this machine's own address.
    """
    hook = settings.vapi_webhook_url
    if url is None and hook is not None:
        return hook, _base_of(hook)
    base = (url or own_url(settings)).rstrip("/")
    return base + WEBHOOK_PATHS[0], base


def _base_of(hook: str) -> str:
    parts = urlsplit(hook)
    path = _path(parts)
    for known in WEBHOOK_PATHS:
        if path.endswith(known):
            return parts._replace(path=path.removesuffix(known), query="", fragment="").geturl()
    return parts._replace(path="", query="", fragment="").geturl()


def shown(url: object) -> str:
    """The address without user, password and query, which may hold secrets."""
    if not isinstance(url, str):
        return "something that is not an address"
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "an address that cannot be read"
    return f"{parts.scheme}://{host}{parts.path}" + ("?***" if parts.query else "")


def is_same_hook(one: object, other: str) -> bool:
    """Whether both lead to the same webhook: both of our routes, and a slash at the end, count as one."""
    return _normal(str(one)) == _normal(other)


def _normal(url: str) -> tuple[str, str, str, str]:
    try:
        parts = urlsplit(url)
        default = {"https": 443, "http": 80}.get(parts.scheme)
        host = f"{(parts.hostname or '').lower()}:{parts.port or default}"
    except ValueError:
        return "", url, "", ""
    path = _path(parts)
    for known in WEBHOOK_PATHS:
        path = path.removesuffix(known) + WEBHOOK_PATHS[0] if path.endswith(known) else path
    return parts.scheme, host, path, parts.query


def _path(parts: SplitResult) -> str:
    return parts.path.rstrip("/")
