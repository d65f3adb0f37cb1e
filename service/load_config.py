"""Reads the settings from environment variables: msgspec decodes them, then they are checked as a whole."""

from __future__ import annotations

import base64
import re
import types
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import msgspec

from service.callback_url import CallbackUrlError, parse_callback_url
from service.config import Secret, Settings, variable_of
from service.errors import SettingsError
from service.standard_webhooks import decode_secret
from service.urls import is_http_url, is_loopback, is_network, split_database_url

REDIS_SCHEMES: Final = (
    "memory", "redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster",
)  # fmt: skip
DATABASE_SCHEMES: Final = ("postgresql", "postgres")
HMAC_PREFIX: Final = "VAPI_HMAC_"
HMAC_PLACEHOLDERS: Final = ("{body}", "{timestamp}", "{method}", "{url}", "{svix-id}")
_PLACEHOLDER: Final = re.compile(r"\{[^{}]*\}")
_PLAIN_TOKEN: Final = re.compile(r"[!-~]+")
CASELESS: Final = ("LOG_LEVEL", "LOG_FORMAT")
FILE_SUFFIX: Final = "_FILE"
MOST_CALLBACK_ORIGINS: Final = 32
"""Each may get two callbacks at a time from each process, so that no origin waits for another."""

LARGEST_SECRET_BYTES: Final = 65_536
"""More is no secret but a wrong path, such as that of a disk."""


def load_settings(environ: Mapping[str, str]) -> Settings:
    """The settings from these variables. Empty variables count as unset.

    Raises:
        SettingsError: one line that names the variable and its allowed values, but contains no secret.
    """
    fields = _hints()
    given = {
        name: _read(name, value, fields[name]) for name, value in environ.items() if name in fields and value.strip()
    }
    for name in filter(can_be_a_file, fields):
        if path := environ.get(name + FILE_SUFFIX, "").strip():
            if name in given:
                raise SettingsError(f"{name}{FILE_SUFFIX}: must not be set together with {name}")
            given[name] = _read(name, _secret_in(name + FILE_SUFFIX, path), fields[name], is_file=True)
    hmac_is_set = any(name.startswith(HMAC_PREFIX) for name in given)
    try:
        settings = msgspec.convert(given, Settings, strict=False, dec_hook=_decode_secret)
    except msgspec.ValidationError as exc:
        raise SettingsError(_sentence(exc)) from None
    if hmac_is_set:
        # The legacy signature has no timestamp, so it would be weaker than the configured HMAC.
        modes = tuple(mode for mode in settings.vapi_webhook_auth if mode != "legacy")
        settings = msgspec.structs.replace(settings, vapi_webhook_auth=modes)
    _check(settings)
    return settings


@cache
def _hints() -> dict[str, Any]:
    """The type of each setting by its variable. Cached: to evaluate the annotations takes a millisecond or two."""
    return {variable_of(name): hint for name, hint in get_type_hints(Settings, include_extras=True).items()}


def can_be_a_file(variable: str) -> bool:
    """True for every secret and for the URLs that may hold a password: ``<variable>_FILE`` names a file with its value."""
    hint = _hints()[variable]
    return hint is Secret or Secret in get_args(hint) or variable == "REDIS_URL"


def _secret_in(variable: str, path: str) -> str:
    """What the file holds, without the newline that editors and ``echo`` put at its end."""
    try:
        if not Path(path).is_file():
            # A pipe could be read only once, and every worker reads it.
            raise SettingsError(f"{variable}: there is no such file, or it is not a regular file")
        with Path(path).open("rb") as file:
            content = file.read(LARGEST_SECRET_BYTES + 1)
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not a path"
        raise SettingsError(f"{variable}: the file cannot be read: {reason}") from None
    if len(content) > LARGEST_SECRET_BYTES:
        raise SettingsError(f"{variable}: the file holds more than {LARGEST_SECRET_BYTES // 1024} KiB")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise SettingsError(f"{variable}: the file must be valid UTF-8") from None
    text = text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text
    if not text.strip():
        # Taken for unset, it would open what its owner meant to close.
        raise SettingsError(f"{variable}: the file is empty")
    return text


def _read(variable: str, value: str, hint: Any, *, is_file: bool = False) -> Any:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise SettingsError(f"{variable}: must be valid UTF-8") from None
    if get_origin(hint) is tuple:
        parts = [part.strip() for part in value.split(",") if part.strip()]
        if not parts:
            raise SettingsError(f"{variable}: is set, but holds nothing; unset it or name at least one")
        if any("\n" in part for part in parts):
            raise SettingsError(f"{variable}: must be one line, with commas between its parts")
        return parts
    if is_file:
        return value
    return value.strip().lower() if variable in CASELESS else value.strip()


def _decode_secret(wanted: type, value: Any) -> Any:
    if wanted is Secret:
        return Secret(value)
    raise TypeError(f"no setting is of type {wanted}")


def _sentence(exc: msgspec.ValidationError) -> str:
    """msgspec's ``Expected `int`, got `str` - at `$.PORT``` as one readable line. It never quotes the value."""
    message, _, path = str(exc).partition(" - at ")
    variable = path.strip("`").removeprefix("$.").split("[")[0] or "settings"
    if choices := _choices(_hints().get(variable)):
        return f"{variable}: must be one of {', '.join(map(str, choices))}"
    return f"{variable}: {message[:1].lower()}{message[1:].replace('`', '')}"


def _choices(hint: Any) -> tuple[Any, ...]:
    if get_origin(hint) is Literal:
        return get_args(hint)
    if get_origin(hint) in (tuple, types.UnionType, Annotated):
        return next((found for found in map(_choices, get_args(hint)) if found), ())
    return ()


def _check(settings: Settings) -> None:
    """Check what the type of a single field cannot express."""
    scheme = settings.redis_url.split("://")[0]
    if scheme not in REDIS_SCHEMES or "://" not in settings.redis_url:
        raise SettingsError(f"REDIS_URL: must begin with one of {', '.join(s + '://' for s in REDIS_SCHEMES)}")
    if scheme == "memory" and settings.workers > 1:
        raise SettingsError("WORKERS: must be 1 with REDIS_URL=memory://, the embedded store lives in one process")
    if scheme == "memory" and settings.store_wait_replicas:
        raise SettingsError("STORE_WAIT_REPLICAS: must be 0 with REDIS_URL=memory://, which has no replicas")
    if "{body}" not in settings.vapi_hmac_payload_format:
        raise SettingsError("VAPI_HMAC_PAYLOAD_FORMAT: must contain {body}")
    if not set(_PLACEHOLDER.findall(settings.vapi_hmac_payload_format)) <= set(HMAC_PLACEHOLDERS):
        raise SettingsError(f"VAPI_HMAC_PAYLOAD_FORMAT: knows no others than {', '.join(HMAC_PLACEHOLDERS)}")
    if "{url}" in settings.vapi_hmac_payload_format and not settings.vapi_webhook_url:
        raise SettingsError("VAPI_WEBHOOK_URL: must be set when VAPI_HMAC_PAYLOAD_FORMAT contains {url}")
    if settings.vapi_hmac_secret_is_base64 and not all(map(is_base64, settings.vapi_webhook_secret)):
        raise SettingsError("VAPI_WEBHOOK_SECRET: must be base64 when VAPI_HMAC_SECRET_IS_BASE64 is set")
    for variable, url in (
        ("VAPI_API_URL", settings.vapi_api_url),
        ("VAPI_WEBHOOK_URL", settings.vapi_webhook_url),
        ("KESTRA_URL", settings.kestra_url),
    ):
        if url is not None and not is_http_url(url):
            raise SettingsError(f"{variable}: must be a URL that begins with http:// or https://")
    if urlsplit(settings.vapi_api_url).scheme != "https" and not is_loopback(urlsplit(settings.vapi_api_url).hostname):
        raise SettingsError("VAPI_API_URL: must be https, unless it is a loopback address")
    for variable, key in (("VAPI_API_KEY", settings.vapi_api_key), ("KESTRA_TOKEN", settings.kestra_token)):
        if key is not None and not _PLAIN_TOKEN.fullmatch(key.reveal()):
            raise SettingsError(f"{variable}: must be printable ASCII without spaces, as it goes into a header")
    for name in settings.forwarded_allow_ips.split(","):
        if name.strip() not in ("", "*") and not is_network(name.strip()):
            raise SettingsError("FORWARDED_ALLOW_IPS: must be addresses or networks, separated by commas, or *")
    if settings.database_url is not None:
        scheme = settings.database_url.reveal().split("://")[0]
        if scheme not in DATABASE_SCHEMES:
            raise SettingsError("DATABASE_URL: must begin with postgresql://")
        try:
            split_database_url(settings.database_url.reveal())
        except ValueError as exc:
            raise SettingsError(f"DATABASE_URL: {exc}") from None
    _check_callbacks(settings)
    if settings.kestra_enabled and not settings.kestra_url:
        raise SettingsError("KESTRA_URL: must be set when KESTRA_ENABLED is")
    if bool(settings.kestra_username) != bool(settings.kestra_password):
        raise SettingsError("KESTRA_PASSWORD: must be set together with KESTRA_USERNAME, or neither of them")
    if settings.is_open and not settings.allow_unauthenticated and not is_loopback(settings.host):
        raise SettingsError(
            f"HOST: {settings.host} is reachable from other machines, so VAPI_WEBHOOK_SECRET, API_READ_TOKENS and "
            "API_ADMIN_TOKENS must be set (or ALLOW_UNAUTHENTICATED=1)"
        )


def _check_callbacks(settings: Settings) -> None:
    for prefix in settings.callback_allowed_prefixes:
        try:
            url = parse_callback_url(prefix)
        except CallbackUrlError as exc:
            raise SettingsError(f"CALLBACK_ALLOWED_PREFIXES: each {exc}") from None
        if "?" in url.target:
            raise SettingsError("CALLBACK_ALLOWED_PREFIXES: must hold no query")
    if (
        len({parse_callback_url(prefix).origin for prefix in settings.callback_allowed_prefixes})
        > MOST_CALLBACK_ORIGINS
    ):
        raise SettingsError(f"CALLBACK_ALLOWED_PREFIXES: may lead to {MOST_CALLBACK_ORIGINS} hosts and ports at most")
    if settings.callback_allowed_prefixes and not settings.callback_secret:
        raise SettingsError("CALLBACK_SECRET: must be set when CALLBACK_ALLOWED_PREFIXES is")
    for secret in settings.callback_secret:
        try:
            decode_secret(secret.reveal())
        except ValueError as exc:
            raise SettingsError(f"CALLBACK_SECRET: {exc}") from None


def is_base64(secret: Secret) -> bool:
    try:
        base64.b64decode(secret.reveal(), validate=True)
    except ValueError:
        return False
    return True
