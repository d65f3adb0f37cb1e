"""Settings: one struct field is one environment variable; decoded by msgspec, checked as a whole, never read at import."""

from __future__ import annotations

import base64
import re
import types
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import msgspec

from service.addresses import is_http_url, is_loopback, is_network
from service.errors import SettingsError

HeaderName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}\Z")]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
LifeSeconds = Annotated[int, msgspec.Meta(ge=1, le=366 * 86_400)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=86_400)]
PositiveSeconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
AuthMode = Literal["secret", "bearer", "hmac", "legacy"]

REDIS_SCHEMES: Final = ("memory", "redis", "rediss", "unix", "redis+sentinel", "redis+cluster")
DATABASE_SCHEMES: Final = ("postgresql", "postgres")
HMAC_PREFIX: Final = "VAPI_HMAC_"
HMAC_PLACEHOLDERS: Final = ("{body}", "{timestamp}", "{method}", "{url}", "{svix-id}")
_PLACEHOLDER: Final = re.compile(r"\{[^{}]*\}")
_PLAIN_TOKEN: Final = re.compile(r"[!-~]+")
CASELESS: Final = ("LOG_LEVEL", "LOG_FORMAT")


class Secret:
    """A string that never shows in a repr, a log or an error."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


class Settings(msgspec.Struct, frozen=True, kw_only=True, rename="upper"):
    """Everything that can be set. A field's default is the variable's; the README's table is tested against this."""

    host: str = "127.0.0.1"
    port: Port = 8000
    workers: Positive = 1

    redis_url: str = "memory://"
    redis_key_prefix: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.:-]{1,64}\Z")] = "vapi"
    result_ttl_s: LifeSeconds = 1800
    pending_ttl_s: LifeSeconds = 46_800
    """VAPI's longest call is 12 h; this is 13."""
    store_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 1.0
    """Above 1.5, a webhook may be answered later than the 2 s that this service promises."""
    store_wait_replicas: Count = 0
    store_failure_status: Literal[200, 503] = 503
    spool_dir: str | None = None
    spool_max_bytes: Positive = 1_073_741_824

    vapi_webhook_secret: tuple[Secret, ...] = ()
    vapi_webhook_auth: tuple[AuthMode, ...] = ("secret", "bearer", "hmac", "legacy")
    vapi_secret_header: HeaderName = "x-vapi-secret"  # noqa: S105 - the name of a header
    vapi_hmac_algorithm: Literal["sha256", "sha512", "sha1"] = "sha256"
    vapi_hmac_encoding: Literal["hex", "base64"] = "hex"
    vapi_hmac_payload_format: str = "{timestamp}.{body}"
    vapi_hmac_prefix: str = ""
    vapi_hmac_signature_header: HeaderName = "x-signature"
    vapi_hmac_timestamp_header: HeaderName = "x-timestamp"
    vapi_hmac_message_id_header: HeaderName = "svix-id"
    vapi_hmac_secret_is_base64: bool = False

    api_read_tokens: tuple[Secret, ...] = ()
    api_admin_tokens: tuple[Secret, ...] = ()
    allow_unauthenticated: bool = False
    metrics_public: bool = False

    max_body_bytes: Positive = 10_485_760
    max_wait_s: PositiveSeconds = 25.0
    """Below the 30 s after which common load balancers answer 504."""
    drain_s: Seconds = 3.0
    rate_limit_per_minute: Count = 0
    report_grace_s: Seconds = 60.0
    expect_analysis: bool = True

    vapi_api_url: str = "https://api.vapi.ai"
    vapi_api_key: Secret | None = None
    vapi_phone_number_id: str | None = None
    vapi_webhook_url: str | None = None
    reconcile_per_second: Annotated[float, msgspec.Meta(gt=0, le=1000)] = 10.0
    call_allowed_prefixes: tuple[Annotated[str, msgspec.Meta(pattern=r"^\+[0-9]{0,15}\Z")], ...] = ()

    kestra_url: str | None = None
    kestra_tenant: str = "main"
    kestra_namespace: str = "ai_concierge"
    kestra_flow: str = "call_provider"
    kestra_api_style: Literal["auto", "v1", "v2"] = "auto"
    kestra_enabled: bool = False
    kestra_username: str | None = None
    kestra_password: Secret | None = None
    kestra_token: Secret | None = None

    database_url: Secret | None = None
    forwarded_allow_ips: str = "127.0.0.1"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"

    def __repr__(self) -> str:
        return "Settings(...)"  # REDIS_URL may hold a password

    @property
    def has_credentials(self) -> bool:
        """True when a webhook secret or any token is set: from then on, whatever has none is closed."""
        return bool(self.vapi_webhook_secret or self.api_read_tokens or self.api_admin_tokens)

    @property
    def is_open(self) -> bool:
        """True when nothing is set: everybody may do everything, from this machine only."""
        return not self.has_credentials

    @property
    def result_ttl_ms(self) -> int:
        return self.result_ttl_s * 1000

    @property
    def pending_ttl_ms(self) -> int:
        return self.pending_ttl_s * 1000

    @property
    def report_grace_ms(self) -> int:
        return int(self.report_grace_s * 1000)


NOT_IN_USE: Final = ("database_url",)
"""Settings of parts that are still to come; whoever sets one should know."""


def settings_not_in_use(settings: Settings) -> list[str]:
    """The variables that are set although nothing looks at them yet."""
    return [variable_of(field) for field in NOT_IN_USE if getattr(settings, field)]


def variable_of(field: str) -> str:
    return field.upper()


def load_settings(environ: Mapping[str, str]) -> Settings:
    """The settings that these variables give; empty ones count as unset.

    Raises:
        SettingsError: one line that names the variable and says what it may be; never a secret.
    """
    hints = get_type_hints(Settings, include_extras=True)
    fields = {variable_of(name): hint for name, hint in hints.items()}
    given = {
        name: _read(name, value, fields[name]) for name, value in environ.items() if name in fields and value.strip()
    }
    hmac_is_set = any(name.startswith(HMAC_PREFIX) for name in given)
    try:
        settings = msgspec.convert(given, Settings, strict=False, dec_hook=_decode_secret)
    except msgspec.ValidationError as exc:
        raise SettingsError(_sentence(exc)) from None
    if hmac_is_set:
        # The legacy signature has no timestamp: once HMAC is configured it would be the weaker way in.
        modes = tuple(mode for mode in settings.vapi_webhook_auth if mode != "legacy")
        settings = msgspec.structs.replace(settings, vapi_webhook_auth=modes)
    _check(settings)
    return settings


def _read(variable: str, value: str, hint: Any) -> Any:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise SettingsError(f"{variable}: must be valid UTF-8") from None
    if get_origin(hint) is tuple:
        parts = [part.strip() for part in value.split(",") if part.strip()]
        if not parts:
            raise SettingsError(f"{variable}: is set, but holds nothing; unset it or name at least one")
        return parts
    return value.strip().lower() if variable in CASELESS else value.strip()


def _decode_secret(wanted: type, value: Any) -> Any:
    if wanted is Secret:
        return Secret(value)
    raise TypeError(f"no setting is of type {wanted}")


def _sentence(exc: msgspec.ValidationError) -> str:
    """msgspec's ``Expected `int`, got `str` - at `$.PORT``` as one line for people; it never quotes the value."""
    message, _, path = str(exc).partition(" - at ")
    variable = path.strip("`").removeprefix("$.").split("[")[0] or "settings"
    field = get_type_hints(Settings, include_extras=True).get(variable.lower())
    choices = _choices(field)
    if choices:
        return f"{variable}: must be one of {', '.join(map(str, choices))}"
    return f"{variable}: {message[:1].lower()}{message[1:].replace('`', '')}"


def _choices(hint: Any) -> tuple[Any, ...]:
    if get_origin(hint) is Literal:
        return get_args(hint)
    if get_origin(hint) in (tuple, types.UnionType, Annotated):
        return next((found for found in map(_choices, get_args(hint)) if found), ())
    return ()


def _check(settings: Settings) -> None:
    """What one field's type cannot say."""
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
    if settings.kestra_enabled and not settings.kestra_url:
        raise SettingsError("KESTRA_URL: must be set when KESTRA_ENABLED is")
    if bool(settings.kestra_username) != bool(settings.kestra_password):
        raise SettingsError("KESTRA_PASSWORD: must be set together with KESTRA_USERNAME, or neither of them")
    if settings.is_open and not settings.allow_unauthenticated and not is_loopback(settings.host):
        raise SettingsError(
            f"HOST: {settings.host} is reachable from other machines, so VAPI_WEBHOOK_SECRET, API_READ_TOKENS and "
            "API_ADMIN_TOKENS must be set (or ALLOW_UNAUTHENTICATED=1)"
        )


def is_base64(secret: Secret) -> bool:
    try:
        base64.b64decode(secret.reveal(), validate=True)
    except ValueError:
        return False
    return True
