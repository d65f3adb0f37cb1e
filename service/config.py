"""The settings: each struct field is one environment variable. load_config.py reads them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

HeaderName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}\Z")]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
TtlSeconds = Annotated[int, msgspec.Meta(ge=1, le=366 * 86_400)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=86_400)]
PositiveSeconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
AuthMode = Literal["secret", "bearer", "hmac", "legacy"]


class Secret:
    """A string that never appears in a repr, a log or an error."""

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
    """All settings. A field's default is its variable's default. A test compares the README's table with this class."""

    host: str = "127.0.0.1"
    port: Port = 8000
    workers: Positive = 1

    redis_url: str = "memory://"
    redis_key_prefix: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.:-]{1,64}\Z")] = "vapi"
    result_ttl_s: TtlSeconds = 1800
    pending_ttl_s: TtlSeconds = 46_800
    """13 h. VAPI's longest call is 12 h."""
    store_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=1.2)] = 1.0
    """At most 1.2, so that writing to the spool (0.8 s) or a 503 still fits into the 2 s that this service promises."""
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
    assistant_analysis: Literal["analysis-plan", "structured-outputs"] = "analysis-plan"
    reconcile_per_second: Annotated[float, msgspec.Meta(gt=0, le=1000)] = 10.0
    max_subscriptions: Positive = 100_000
    """Each takes 0.6 kB of Redis's memory, or 1.2 kB with the longest ids; a callback also takes its URL, at most 2 kB."""
    call_allowed_prefixes: tuple[Annotated[str, msgspec.Meta(pattern=r"^\+[0-9]{0,15}\Z")], ...] = ()

    callback_allowed_prefixes: tuple[str, ...] = ()
    callback_secret: tuple[Secret, ...] = ()

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
    archive_retention_days: Annotated[int, msgspec.Meta(ge=1, le=36_500)] = 90
    archive_raw_payload: bool = False
    forwarded_allow_ips: str = "127.0.0.1"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"

    def __repr__(self) -> str:
        return "Settings(...)"  # REDIS_URL may hold a password

    @property
    def has_credentials(self) -> bool:
        """True when a webhook secret or any token is set. Then routes whose credential is not set are closed."""
        return bool(self.vapi_webhook_secret or self.api_read_tokens or self.api_admin_tokens)

    @property
    def is_open(self) -> bool:
        """True when no credential is set. Then any program on this machine may do everything except place calls."""
        return not self.has_credentials

    @property
    def can_place_calls(self) -> bool:
        """True when VAPI or Kestra is configured for placing calls and there is an admin token, which placing needs."""
        can_dial = bool(self.vapi_api_key and self.vapi_phone_number_id) or bool(self.kestra_url)
        return can_dial and bool(self.api_admin_tokens)

    @property
    def has_callbacks(self) -> bool:
        """True when callbacks may be subscribed."""
        return bool(self.callback_allowed_prefixes)

    @property
    def can_fail_over(self) -> bool:
        """True when Redis may promote another server, which may lack writes that its master acknowledged."""
        return "+sentinel:" in self.redis_url or "+cluster:" in self.redis_url

    @property
    def result_ttl_ms(self) -> int:
        return self.result_ttl_s * 1000

    @property
    def pending_ttl_ms(self) -> int:
        return self.pending_ttl_s * 1000

    @property
    def report_grace_ms(self) -> int:
        return int(self.report_grace_s * 1000)


def variable_of(field: str) -> str:
    return field.upper()
