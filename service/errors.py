"""The errors that become HTTP answers. Each class has one status; api/responses.py renders them all."""

from __future__ import annotations

from typing import ClassVar


class Detail:
    """One reason for an error: what is wrong, and the JSON path of the place. It never holds the value itself."""

    __slots__ = ("message", "path")

    def __init__(self, path: str, message: str) -> None:
        self.path = path
        self.message = message


class ServiceError(Exception):
    """An error for the caller. ``str(error)`` is the sentence in the answer; it contains no value of the request."""

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
    """A webhook without valid proof. The reason is only logged; the answer is the same for every reason."""

    def __init__(self, reason: str) -> None:
        super().__init__("Invalid webhook signature")
        self.reason = reason


class PaymentRequiredError(ServiceError):
    """VAPI does not dial until its account is paid."""

    status = 402


class ForbiddenError(ServiceError):
    status = 403


class NotFoundError(ServiceError):
    status = 404


class ConflictError(ServiceError):
    """The same request is under way, or its outcome is unknown."""

    status = 409


class BodyTooLargeError(ServiceError):
    status = 413


class UnsupportedEncodingError(ServiceError):
    status = 415


class KeyReusedError(ServiceError):
    """An ``Idempotency-Key`` was used again with another body."""

    status = 422


class TooManyRequestsError(ServiceError):
    status = 429


class HeadTooLargeError(ServiceError):
    status = 431


class NotConfiguredError(ServiceError):
    """A part that is not configured. The sentence names the variable that turns it on."""

    status = 501


class UpstreamError(ServiceError):
    """VAPI or Kestra is in trouble, does not answer, or cannot be reached.

    ``is_outcome_unknown``: the request may have had its effect, because it was sent before the failure.
    """

    status = 502

    def __init__(self, message: str, *, is_outcome_unknown: bool = False) -> None:
        super().__init__(message)
        self.is_outcome_unknown = is_outcome_unknown


class UnavailableError(ServiceError):
    """Not possible now. The same request may succeed a second later (``Retry-After: 1``)."""

    status = 503


class StoreUnavailableError(UnavailableError):
    """Redis refused, hung, was read-only, full, loading or away for longer than ``STORE_TIMEOUT_S``."""

    @property
    def reason(self) -> str:
        """For operators: Redis's error reply, or what happened to the connection.

        redis-py takes the first word off some error replies (OOM, READONLY, LOADING) and keeps it as ``status_code``.
        """
        cause = self.__cause__ or self
        word = getattr(cause, "status_code", None)
        return f"{word} {cause}" if word else str(cause)


class StoreRefusedError(StoreUnavailableError):
    """Redis will never accept this command: its key has another type, or a script fails on it."""


class ArchiveUnavailableError(UnavailableError):
    """PostgreSQL refused, hung, lacks its schema or was away for longer than the request may wait.

    ``reason`` is for operators: the class of the error, with no value of a row.
    """

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or message


class SettingsError(Exception):
    """A setting is wrong or missing. The message is one line that names the variable; the process exits with 2."""
