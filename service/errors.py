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


class ForbiddenError(ServiceError):
    status = 403


class NotFoundError(ServiceError):
    status = 404


class BodyTooLargeError(ServiceError):
    status = 413


class UnsupportedEncodingError(ServiceError):
    status = 415


class TooManyRequestsError(ServiceError):
    status = 429


class UnavailableError(ServiceError):
    """We cannot do it now; the same request may succeed a second later (``Retry-After: 1``)."""

    status = 503


class StoreUnavailableError(UnavailableError):
    """Redis refused, hung, was read-only, full, loading or away for longer than ``STORE_TIMEOUT_S``."""


class StoreRefusedError(StoreUnavailableError):
    """Redis will never take this very command: its key holds something else, or a script fails on it."""


class SettingsError(Exception):
    """A setting that is wrong or missing: one line that names the variable; the process exits with 2."""
