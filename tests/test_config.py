"""The settings: their defaults, what is refused and how it is said, and that nothing is open by accident."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest

from service.config import Secret, Settings, variable_of
from service.errors import SettingsError
from service.load_config import load_settings
from service.urls import is_http_url, is_loopback
from tests.support.for_each import for_each

DEFAULTS: Final[dict[str, Any]] = {
    "HOST": "127.0.0.1", "PORT": 8000, "WORKERS": 1,
    "REDIS_URL": "memory://", "REDIS_KEY_PREFIX": "vapi", "RESULT_TTL_S": 1800, "PENDING_TTL_S": 46800,
    "STORE_TIMEOUT_S": 1.0, "STORE_WAIT_REPLICAS": 0, "STORE_FAILURE_STATUS": 503,
    "SPOOL_DIR": None, "SPOOL_MAX_BYTES": 1073741824,
    "VAPI_WEBHOOK_SECRET": (), "VAPI_WEBHOOK_AUTH": ("secret", "bearer", "hmac", "legacy"),
    "VAPI_HMAC_ALGORITHM": "sha256", "VAPI_HMAC_ENCODING": "hex", "VAPI_HMAC_PAYLOAD_FORMAT": "{timestamp}.{body}",
    "VAPI_HMAC_PREFIX": "", "VAPI_HMAC_SIGNATURE_HEADER": "x-signature", "VAPI_HMAC_TIMESTAMP_HEADER": "x-timestamp",
    "VAPI_HMAC_SECRET_IS_BASE64": False,
    "API_READ_TOKENS": (), "API_ADMIN_TOKENS": (), "ALLOW_UNAUTHENTICATED": False, "METRICS_PUBLIC": False,
    "MAX_BODY_BYTES": 10485760, "MAX_WAIT_S": 25, "DRAIN_S": 3, "RATE_LIMIT_PER_MINUTE": 0,
    "REPORT_GRACE_S": 60, "EXPECT_ANALYSIS": True, "ASSISTANT_ANALYSIS": "analysis-plan",
    "VAPI_API_URL": "https://api.vapi.ai", "VAPI_API_KEY": None, "VAPI_PHONE_NUMBER_ID": None, "VAPI_WEBHOOK_URL": None,
    "RECONCILE_PER_SECOND": 10, "MAX_SUBSCRIPTIONS": 100_000, "CALL_ALLOWED_PREFIXES": (),
    "CALLBACK_ALLOWED_PREFIXES": (), "CALLBACK_SECRET": (),
    "KESTRA_URL": None, "KESTRA_TENANT": "main", "KESTRA_NAMESPACE": "ai_concierge", "KESTRA_FLOW": "call_provider",
    "KESTRA_API_STYLE": "auto", "KESTRA_ENABLED": False, "KESTRA_USERNAME": None, "KESTRA_PASSWORD": None,
    "KESTRA_TOKEN": None, "DATABASE_URL": None, "ARCHIVE_RETENTION_DAYS": 90, "ARCHIVE_RAW_PAYLOAD": False,
    "FORWARDED_ALLOW_IPS": "127.0.0.1",
    "LOG_LEVEL": "info", "LOG_FORMAT": "auto",
}  # fmt: skip
"""The contract's table."""

HEADERS: Final = {"VAPI_SECRET_HEADER": "x-vapi-secret", "VAPI_HMAC_MESSAGE_ID_HEADER": "svix-id"}


def _value(settings: Settings, variable: str) -> Any:
    return getattr(settings, variable.lower())


def _refusal(**environ: str) -> str:
    with pytest.raises(SettingsError) as refused:
        load_settings(environ)
    return str(refused.value)


@for_each(("variable", "default"), [*DEFAULTS.items(), *HEADERS.items()])
def test_unset_means_the_documented_default(variable: str, default: object) -> None:
    assert _value(load_settings({}), variable) == default


def test_there_is_no_setting_that_is_not_documented() -> None:
    assert {variable_of(field.name) for field in msgspec.structs.fields(Settings)} == DEFAULTS.keys() | HEADERS.keys()


@for_each("variable", [*DEFAULTS, *HEADERS])
@for_each("nothing", ["", "  "])
def test_empty_means_unset(variable: str, nothing: str) -> None:
    assert load_settings({variable: nothing}) == load_settings({})


def test_what_is_not_ours_is_ignored() -> None:
    assert load_settings({"PATH": "/bin", "VAPI_HMAC_COLOUR": "red", "host": "0.0.0.0"}) == load_settings({})


@for_each(
    ("variable", "text", "value"),
    [
        ("PORT", " 9000 ", 9000),
        ("STORE_TIMEOUT_S", "0.5", 0.5),
        ("STORE_TIMEOUT_S", "1.2", 1.2),
        ("STORE_FAILURE_STATUS", "200", 200),
        ("EXPECT_ANALYSIS", "0", False),
        ("METRICS_PUBLIC", "true", True),
        ("VAPI_WEBHOOK_AUTH", "hmac , bearer", ("hmac", "bearer")),
        ("VAPI_WEBHOOK_SECRET", "new, old ,", (Secret("new"), Secret("old"))),
        ("API_READ_TOKENS", "one", (Secret("one"),)),
        ("CALL_ALLOWED_PREFIXES", "+1,+44", ("+1", "+44")),
        ("VAPI_API_KEY", "key", Secret("key")),
        ("DATABASE_URL", "postgresql://u:p@h/d", Secret("postgresql://u:p@h/d")),
        ("VAPI_API_URL", "http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("REDIS_URL", "redis+sentinel://a:1,b:2/main", "redis+sentinel://a:1,b:2/main"),
    ],
)
def test_a_given_value_counts(variable: str, text: str, value: object) -> None:
    assert _value(load_settings({variable: text}), variable) == value


WRONG: Final = [
    ("PORT", "web-7"), ("PORT", "65536"), ("PORT", "-7"), ("WORKERS", "0"), ("WORKERS", "many7"),
    ("REDIS_URL", "http://secret7"), ("REDIS_URL", "redis:secret7"), ("REDIS_KEY_PREFIX", "a{b}7"),
    ("REDIS_KEY_PREFIX", "x7" * 40), ("RESULT_TTL_S", "0"), ("RESULT_TTL_S", "17.7"), ("PENDING_TTL_S", "0"),
    ("STORE_TIMEOUT_S", "0"), ("STORE_TIMEOUT_S", "1.27"), ("STORE_TIMEOUT_S", "soon7"), ("STORE_WAIT_REPLICAS", "-7"),
    ("STORE_FAILURE_STATUS", "207"), ("STORE_FAILURE_STATUS", "odd7"), ("SPOOL_MAX_BYTES", "0"),
    ("VAPI_WEBHOOK_AUTH", "secret7"), ("VAPI_WEBHOOK_AUTH", "secret,secret7"), ("VAPI_HMAC_ALGORITHM", "md57"),
    ("VAPI_HMAC_ENCODING", "hex7"), ("VAPI_HMAC_PAYLOAD_FORMAT", "{timestamp}7"),
    ("VAPI_HMAC_PAYLOAD_FORMAT", "{timestmap7}.{body}"), ("VAPI_HMAC_PAYLOAD_FORMAT", "{Timestamp}7.{body}"),
    ("VAPI_HMAC_SECRET_IS_BASE64", "maybe7"), ("ALLOW_UNAUTHENTICATED", "maybe7"), ("METRICS_PUBLIC", "7"),
    ("MAX_BODY_BYTES", "0"), ("MAX_BODY_BYTES", "10MB7"), ("MAX_WAIT_S", "0"), ("MAX_WAIT_S", "-7"), ("DRAIN_S", "-7"),
    ("RATE_LIMIT_PER_MINUTE", "-7"), ("REPORT_GRACE_S", "-7"), ("EXPECT_ANALYSIS", "some7"),
    ("VAPI_API_KEY", "secret7 secret7"), ("VAPI_API_KEY", "secret7\u00e9"), ("KESTRA_TOKEN", "secret7 secret7"),
    ("VAPI_API_URL", "http://secret7.example"), ("VAPI_API_URL", "ftp://secret7"), ("VAPI_API_URL", "http://[::7"),
    ("VAPI_WEBHOOK_URL", "secret7"), ("VAPI_WEBHOOK_URL", "https:///secret7"), ("KESTRA_URL", "kestra7:8080"),
    ("RECONCILE_PER_SECOND", "0"), ("KESTRA_API_STYLE", "v7"), ("KESTRA_ENABLED", "maybe7"),
    ("ARCHIVE_RETENTION_DAYS", "0"), ("ARCHIVE_RETENTION_DAYS", "-7"), ("ARCHIVE_RAW_PAYLOAD", "maybe7"),
    ("LOG_LEVEL", "loud7"), ("LOG_FORMAT", "xml7"),
]  # fmt: skip


@for_each(("variable", "wrong"), WRONG)
def test_a_wrong_value_is_refused_by_the_variables_name_without_quoting_it(variable: str, wrong: str) -> None:
    said = _refusal(**{variable: wrong})

    assert said.startswith(f"{variable}: ")
    assert "\n" not in said
    assert wrong == "0" or wrong not in said


DURATIONS: Final = ["MAX_WAIT_S", "REPORT_GRACE_S", "DRAIN_S", "STORE_TIMEOUT_S"]


@pytest.mark.parametrize("variable", DURATIONS)
def test_a_duration_is_a_number(variable: str) -> None:
    assert _refusal(**{variable: "nan"}).startswith(f"{variable}: ")


@pytest.mark.parametrize("variable", DURATIONS[:3])
def test_a_duration_is_finite(variable: str) -> None:
    assert _refusal(**{variable: "inf"}).startswith(f"{variable}: ")


@pytest.mark.parametrize(
    ("variable", "wrong", "choices"),
    [
        ("LOG_LEVEL", "loud", "debug, info, warning, error"),
        ("STORE_FAILURE_STATUS", "500", "200, 503"),
        ("VAPI_WEBHOOK_AUTH", "none", "secret, bearer, hmac, legacy"),
        (
            "REDIS_URL",
            "x",
            "redis+sentinel://, rediss+sentinel://, redis+cluster://, rediss+cluster://",
        ),
    ],
)
def test_a_refusal_says_what_there_is_to_choose_from(variable: str, wrong: str, choices: str) -> None:
    assert _refusal(**{variable: wrong}).endswith(choices)


def test_the_embedded_store_has_one_worker() -> None:
    assert _refusal(WORKERS="2").startswith("WORKERS: ")
    assert load_settings({"WORKERS": "2", "REDIS_URL": "redis://127.0.0.1"}).workers == 2


def test_the_embedded_store_has_no_replicas_that_could_confirm() -> None:
    assert _refusal(STORE_WAIT_REPLICAS="1").startswith("STORE_WAIT_REPLICAS: ")
    assert load_settings({"STORE_WAIT_REPLICAS": "1", "REDIS_URL": "redis://127.0.0.1"}).store_wait_replicas == 1


def test_a_signature_over_the_url_needs_the_url() -> None:
    signed = {"VAPI_HMAC_PAYLOAD_FORMAT": "{url}.{body}"}

    assert _refusal(**signed).startswith("VAPI_WEBHOOK_URL: ")
    assert load_settings({**signed, "VAPI_WEBHOOK_URL": "https://us.example/hook"}).vapi_webhook_url is not None


def test_a_base64_secret_is_base64() -> None:
    environ = {"VAPI_HMAC_SECRET_IS_BASE64": "1", "VAPI_WEBHOOK_SECRET": "c2VjcmV0,secret-7!"}

    said = _refusal(**environ)
    assert said.startswith("VAPI_WEBHOOK_SECRET: ")
    assert "secret-7" not in said
    assert load_settings({**environ, "VAPI_WEBHOOK_SECRET": "c2VjcmV0"}).vapi_hmac_secret_is_base64


@pytest.mark.parametrize(
    ("variable", "value"),
    [("VAPI_HMAC_ENCODING", "base64"), ("VAPI_HMAC_PREFIX", "v1,"), ("VAPI_HMAC_SECRET_IS_BASE64", "0")],
)
def test_any_hmac_setting_turns_the_legacy_signature_off(variable: str, value: str) -> None:
    assert load_settings({variable: value}).vapi_webhook_auth == ("secret", "bearer", "hmac")


def test_any_hmac_setting_turns_the_legacy_signature_off_also_where_it_is_asked_for() -> None:
    settings = load_settings({"VAPI_HMAC_ENCODING": "hex", "VAPI_WEBHOOK_AUTH": "legacy,hmac"})

    assert settings.vapi_webhook_auth == ("hmac",)


CREDENTIALS: Final = ["VAPI_WEBHOOK_SECRET", "API_READ_TOKENS", "API_ADMIN_TOKENS"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "service.example", "[2001:db8::7]"])
def test_with_nothing_set_only_this_machine_is_served(host: str) -> None:
    said = _refusal(HOST=host)

    assert all(variable in said for variable in (*CREDENTIALS, "ALLOW_UNAUTHENTICATED"))
    assert "\n" not in said


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1", "[::1]"])
def test_on_a_loopback_address_nothing_need_be_set(host: str) -> None:
    settings = load_settings({"HOST": host})

    assert settings.is_open
    assert not settings.has_credentials


@pytest.mark.parametrize("variable", CREDENTIALS)
def test_with_any_credential_every_address_may_be_served_and_nothing_is_open(variable: str) -> None:
    settings = load_settings({"HOST": "0.0.0.0", variable: "secret"})

    assert settings.has_credentials
    assert not settings.is_open


def test_a_list_that_is_set_and_holds_nothing_is_refused() -> None:
    assert _refusal(API_READ_TOKENS=" , ,").startswith("API_READ_TOKENS: ")


def test_allowing_it_serves_everybody() -> None:
    assert load_settings({"HOST": "0.0.0.0", "ALLOW_UNAUTHENTICATED": "1"}).is_open


SECRETS: Final = [
    "VAPI_WEBHOOK_SECRET", "API_READ_TOKENS", "API_ADMIN_TOKENS", "VAPI_API_KEY", "KESTRA_PASSWORD", "KESTRA_TOKEN",
]  # fmt: skip


@pytest.mark.parametrize("variable", SECRETS)
def test_a_secret_does_not_show(variable: str) -> None:
    settings = load_settings(
        {variable: "hunter7"} | ({"KESTRA_USERNAME": "u"} if variable == "KESTRA_PASSWORD" else {})
    )

    assert "hunter7" not in f"{settings!r} {settings} {_value(settings, variable)}"
    values = _value(settings, variable)
    assert (values[0] if isinstance(values, tuple) else values).reveal() == "hunter7"


def test_the_password_in_the_archives_url_does_not_show() -> None:
    assert "hunter7" not in repr(load_settings({"DATABASE_URL": "postgresql://u:hunter7@h/d"}).database_url)


def test_the_password_in_the_redis_url_does_not_show() -> None:
    assert "hunter7" not in repr(load_settings({"REDIS_URL": "redis://user:hunter7@127.0.0.1:6379/0"}))


def test_secrets_are_equal_by_value_and_can_be_kept_in_sets() -> None:
    assert {Secret("a"), Secret("a"), Secret("b")} == {Secret("b"), Secret("a")}
    assert Secret("a") != "a"


def test_loopback_and_urls_are_told_by_their_form_alone() -> None:
    assert not is_loopback(None)
    assert not is_loopback("localhost.example")
    assert is_http_url("http://[::1]:9000/x")
    assert not is_http_url("//host")


PREFIX: Final = "https://hooks.example/calls/"
CALLBACK_SECRET: Final = "whsec_" + "c2VjcmV0" * 4


@for_each(
    ("prefixes", "secret", "sentence"),
    [
        (PREFIX, "", "CALLBACK_SECRET: must be set when CALLBACK_ALLOWED_PREFIXES is"),
        ("", "secret", "CALLBACK_SECRET: must begin with whsec_"),
        (PREFIX, "whsec_secret!", "CALLBACK_SECRET: must be whsec_ and base64"),
        (PREFIX, f"{CALLBACK_SECRET},whsec_c2VjcmV0", "CALLBACK_SECRET: must be base64 of 24 to 64 bytes"),
        ("hooks.example", CALLBACK_SECRET, "CALLBACK_ALLOWED_PREFIXES: each must be an absolute http or https URL"),
        ("https://u:p@hooks.example/", CALLBACK_SECRET, "CALLBACK_ALLOWED_PREFIXES: each must be an absolute"),
        (f"{PREFIX}, https://127.1/", CALLBACK_SECRET, "CALLBACK_ALLOWED_PREFIXES: each must have a host that is no"),
        (f"{PREFIX}?key=secret", CALLBACK_SECRET, "CALLBACK_ALLOWED_PREFIXES: must hold no query"),
        (",".join(f"https://h{n}.example" for n in range(33)), CALLBACK_SECRET, "CALLBACK_ALLOWED_PREFIXES: may lead"),
    ],
)
def test_callbacks_need_prefixes_that_are_urls_and_secrets_that_are_keys(
    prefixes: str, secret: str, sentence: str
) -> None:
    said = _refusal(CALLBACK_ALLOWED_PREFIXES=prefixes, CALLBACK_SECRET=secret)
    assert said.startswith(sentence)
    assert "\n" not in said
    assert "secret" not in said


def test_callbacks_are_on_with_prefixes_and_a_secret() -> None:
    settings = load_settings({"CALLBACK_ALLOWED_PREFIXES": PREFIX, "CALLBACK_SECRET": CALLBACK_SECRET})
    assert (settings.has_callbacks, load_settings({}).has_callbacks) == (True, False)
