"""The errors that become answers: each class is one HTTP status, rendered in one place (api/responses.py)."""

from __future__ import annotations

from typing import ClassVar


class Detail:
    """One reason more: where in the request (a JSON path, never a value of it) and what is wrong there."""

    __slots__ = ("message", "path")

    def __init__(self, path: str, message: str) -> None:
        self.path = path
        self.message = message


class ServiceError(Exception):
    """Something the caller is told. ``str(error)`` is the sentence in the answer; it carries no value of the request."""

    status: ClassVar[int] = 500

    def __init__(
        self, message: str, *, details: tuple[Detail, ...] = (), headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.details = details
        self.headers = headers or {}


class InvalidRequestError(ServiceError):
    status = 400


class InvalidMessageError(InvalidRequestError):
    """A webhook body that is not a VAPI server message."""


class UnauthorizedError(ServiceError):
    status = 401


class InvalidSignatureError(UnauthorizedError):
    """A webhook without valid proof. The reason stays in the log; the answer is the same for all of them."""

    def __init__(self, reason: str) -> None:
        super().__init__("Invalid webhook signature")
        self.reason = reason


class PaymentRequiredError(ServiceError):
    """VAPI will not dial before somebody pays."""

    status = 402


class ForbiddenError(ServiceError):
    status = 403


class NotFoundError(ServiceError):
    status = 404


class ConflictError(ServiceError):
    """The same request is under way, or nobody knows what became of it."""

    status = 409


class BodyTooLargeError(ServiceError):
    status = 413


class UnsupportedEncodingError(ServiceError):
    status = 415


class KeyReusedError(ServiceError):
    """An ``Idempotency-Key`` came again with another body."""

    status = 422


class TooManyRequestsError(ServiceError):
    status = 429


class HeadTooLargeError(ServiceError):
    status = 431


class NotConfiguredError(ServiceError):
    """A part that is switched off; the sentence names the variable that switches it on."""

    status = 501


class UpstreamError(ServiceError):
    """VAPI or Kestra is in trouble, does not answer, or cannot be reached.

    ``is_outcome_unknown``: the request may have had its effect, because it was written before the trouble began.
    """

    status = 502

    def __init__(self, message: str, *, is_outcome_unknown: bool = False) -> None:
        super().__init__(message)
        self.is_outcome_unknown = is_outcome_unknown


class UnavailableError(ServiceError):
    """We cannot do it now; the same request may succeed a second later (``Retry-After: 1``)."""

    status = 503


class StoreUnavailableError(UnavailableError):
    """Redis refused, hung, was read-only, full, loading or away for longer than ``STORE_TIMEOUT_S``."""


class StoreRefusedError(StoreUnavailableError):
    """Redis will never take this very command: its key holds something else, or a script fails on it."""


class SettingsError(Exception):
    """A setting that is wrong or missing: one line that names the variable; the process exits with 2."""
