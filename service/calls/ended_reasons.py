"""What an ended reason means: how the call went, whether calling again helps, whether it ever connected.

VAPI's list grows (168 reasons in its first SDK, 604 in August 2026), so nothing here lists them. A few rules look at
parts of a reason, and they also cover reasons that VAPI adds later. The tests check the rules against all 604.

https://docs.vapi.ai/calls/call-ended-reason
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Literal, NamedTuple, TypeVar

Outcome = Literal["completed", "voicemail", "busy", "no_answer", "cancelled", "failed"]
Retry = Literal["later", "soon", "fix"]
_Class = TypeVar("_Class", bound=str)


class ReasonMeaning(NamedTuple):
    """The meaning of one ended reason."""

    outcome: Outcome
    retry: Retry | None
    """When to call again: later, soon, or after somebody has fixed something. None: no need, or no rule matches."""
    has_connected: bool
    """False when nobody can have talked."""

    @property
    def rules_out_analysis(self) -> bool:
        """True when no analysis can follow a call that ended for this reason."""
        return self.outcome in NO_ANALYSIS_OUTCOMES or not self.has_connected


NO_ANALYSIS_OUTCOMES: Final = frozenset({"voicemail", "no_answer", "busy", "cancelled"})
UNRELIABLE_OUTCOMES: Final = frozenset({"voicemail", "no_answer", "busy"})
"""After these VAPI's model makes up a conversation: it once summarised a voicemail as "status of the Q3 campaign"."""


def _rules(*rules: tuple[_Class, str]) -> tuple[tuple[_Class, re.Pattern[str]], ...]:
    return tuple((meant, re.compile(pattern, re.VERBOSE)) for meant, pattern in rules)


_OUTCOMES: Final[tuple[tuple[Outcome, re.Pattern[str]], ...]] = _rules(
    ("voicemail", "voicemail"),
    # Only this is a busy line. A voice provider, or the person to whom a call was forwarded, can be busy, too.
    ("busy", r"^(?!call\.forwarding | .*transfer).*customer-busy"),
    (
        "no_answer",
        r"""^(?!call\.forwarding | .*transfer).*customer-did-not-answer | (twilio|vonage)-failed-to-connect-call | sip-outbound-call-failed-to-connect
        | outbound-sip-(408|480)\b""",
    ),
    ("cancelled", "^manually-canceled | ^(scheduled-)?call-deleted$ | caller-hungup-before-call-connect"),
    (
        "completed",
        r"""^(customer-ended-call|assistant-ended-call|assistant-said-end-call-phrase|assistant-forwarded-call)
        | ^assistant-request-returned-forwarding-phone-number$ | ^call\..*hook-executed- | ^(exceeded-max-duration|silence-timed-out)$
        | \b(twilio|sip|vonage)-completed""",
    ),
)
"""The first match counts. A reason without a match is a failed call."""

_RETRIES: Final[tuple[tuple[Retry, re.Pattern[str]], ...]] = _rules(
    # The person, the line or the carrier was not available.
    (
        "later",
        r"""forwarding\..*(busy|no-answer|not-answer) | transfer | outbound-sip-(486|600|5\d\d)\b | daily-limit | vonage-rejected
        | carrier-released | did-not-receive-customer-audio""",
    ),
    # These pass, although some also mention an upgrade or contain a 4xx status.
    ("soon", "concurren | system-busy | rate-limit | invalid-json"),
    # Somebody has to change a key, a plan, a number or a configuration.
    (
        "fix",
        r"""\b4\d\d\b | unauthori | auth-failed | credential | api-key | forbidden | access-denied
        | quota | credits | funds | payment | upgrade | wallet | frozen | -only-for- | paid-only | free-users | limit-exceeded
        | invalid | not-valid | validation | parsing-failed | unsupported | config | must-be
        | not-found | missing-samples | disabled-by-owner | blocked- | not-fine-tuned | no-available | feature-not-available
        | ^assistant-request-returned- | ^call-start-error- | error-get-(assistant|customer|phone-number|resources)
        | number-international | fraud-check | unallocated | misdialed | no-call-received | microphone-permission""",
    ),
    # A fault of VAPI or of a provider that passes by itself.
    (
        "soon",
        r"""\b5\d\d\b | (llm|transcriber|voice|video|request|connection)-failed | server-error | overloaded
        | timed-out | unexpected-error | request-canceled | network | socket | econn | disconnected | database
        | transport | worker | failed-to-start | error-vapifault-get-""",
    ),
)
"""For failed calls. The first match counts."""

_NEVER_CONNECTED: Final = re.compile(
    r"""^customer-(busy|did-not) | ^scheduled- | ^call[.-]start | ^call\.ringing\. | ^assistant-(not|request|join)-
    | before-call-connect | (?<!transfer-)failed-to-connect | never-connected | transport-missing | call-not-active | failed-to-start
    | worker-not-available | outbound-sip-\d | unallocated | misdialed | rejected | no-call-received""",
    re.VERBOSE,
)


@lru_cache(maxsize=1024)
def meaning_of(reason: str) -> ReasonMeaning:
    """Cached: every rendering of a record needs it, and VAPI has only some 600 reasons."""
    outcome: Outcome = _first_match(_OUTCOMES, reason) or "failed"
    retry: Retry | None = "later" if outcome in UNRELIABLE_OUTCOMES else None
    if outcome == "failed":
        retry = _first_match(_RETRIES, reason)
    return ReasonMeaning(outcome, retry, _NEVER_CONNECTED.search(reason) is None)


def _first_match(rules: Iterable[tuple[_Class, re.Pattern[str]]], reason: str) -> _Class | None:
    return next((meant for meant, pattern in rules if pattern.search(reason)), None)
