"""What an ended reason means: how the call went, whether calling again helps, whether it ever connected.

VAPI's list grows (168 reasons in its first SDK, 604 in August 2026), so nothing here lists them. A few rules look at what
a reason contains, and a reason that VAPI adds later falls under the same rules. The tests hold them to all 604.

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
    """What one ended reason comes to."""

    outcome: Outcome
    retry: Retry | None
    """When to call again: later, soon, or after somebody has fixed something. None: there is no need, or no rule fits."""
    has_connected: bool
    """False when nobody can have talked."""

    @property
    def rules_out_analysis(self) -> bool:
        """True when no analysis can follow such an end."""
        return self.outcome in NO_ANALYSIS_OUTCOMES or not self.has_connected


NO_ANALYSIS_OUTCOMES: Final = frozenset({"voicemail", "no_answer", "busy", "cancelled"})
UNRELIABLE_OUTCOMES: Final = frozenset({"voicemail", "no_answer", "busy"})
"""VAPI's model then summarises a conversation that never was: a voicemail once became "status of the Q3 campaign"."""


def _rules(*rules: tuple[_Class, str]) -> tuple[tuple[_Class, re.Pattern[str]], ...]:
    return tuple((meant, re.compile(pattern, re.VERBOSE)) for meant, pattern in rules)


_OUTCOMES: Final[tuple[tuple[Outcome, re.Pattern[str]], ...]] = _rules(
    ("voicemail", "voicemail"),
    # A voice provider can be busy, and so can the person to whom a call was forwarded: only this is a busy line.
    ("busy", "customer-busy"),
    (
        "no_answer",
        r"""customer-did-not-answer | (twilio|vonage)-failed-to-connect-call | sip-outbound-call-failed-to-connect
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
"""The first that matches counts; a reason that matches none is a failed call."""

_RETRIES: Final[tuple[tuple[Retry, re.Pattern[str]], ...]] = _rules(
    # The person, the line or the carrier was not to be had now.
    (
        "later",
        r"""forwarding\.(no-answer|operator-busy) | transfer | outbound-sip-5\d\d\b | daily-limit | vonage-rejected
        | carrier-released | did-not-receive-customer-audio""",
    ),
    # These pass, although some of them also speak of an upgrade or have the number of a refusal.
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
    # A fault of VAPI's or of a provider's that passes by itself.
    (
        "soon",
        r"""\b5\d\d\b | (llm|transcriber|voice|video|request|connection)-failed | server-error | overloaded
        | timed-out | unexpected-error | request-canceled | network | socket | econn | disconnected | database
        | transport | worker | failed-to-start | error-vapifault-get-""",
    ),
)
"""The first that matches counts, for failed calls."""

_NEVER_CONNECTED: Final = re.compile(
    r"""^customer-(busy|did-not) | ^scheduled- | ^call[.-]start | ^call\.ringing\. | ^assistant-(not|request|join)-
    | before-call-connect | (?<!transfer-)failed-to-connect | never-connected | transport-missing | call-not-active | failed-to-start
    | worker-not-available | outbound-sip-\d | unallocated | misdialed | rejected | no-call-received""",
    re.VERBOSE,
)


@lru_cache(maxsize=1024)
def meaning_of(reason: str) -> ReasonMeaning:
    """Cached: every render of a record asks, and VAPI knows some 600 reasons."""
    outcome: Outcome = _first_match(_OUTCOMES, reason) or "failed"
    retry: Retry | None = "later" if outcome in UNRELIABLE_OUTCOMES else None
    if outcome == "failed":
        retry = _first_match(_RETRIES, reason)
    return ReasonMeaning(outcome, retry, _NEVER_CONNECTED.search(reason) is None)


def _first_match(rules: Iterable[tuple[_Class, re.Pattern[str]]], reason: str) -> _Class | None:
    return next((meant for meant, pattern in rules if pattern.search(reason)), None)
