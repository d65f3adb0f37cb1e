"""Checks callers' tokens, which may read or administer. vapi/authentication.py checks VAPI's webhooks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Final

from starlette.types import Scope

from service.api.limits import FailedProofs, RefusalLog
from service.config import Secret, Settings
from service.errors import ForbiddenError, UnauthorizedError
from service.headers import bearer_token, is_any_of
from service.metrics.declared import LACKS_ADMIN, NO_BEARER, UNKNOWN_BEARER


class Access(IntEnum):
    """What a route requires of its caller."""

    OPEN = 0
    READ = 1
    ADMIN = 2
    DIAL = 3
    """Always needs an admin token, even while no credentials are set: a call costs money and phones people."""


_CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}


class CallerTokens:
    """Who may do what, from ``API_READ_TOKENS`` and ``API_ADMIN_TOKENS``.

    Args:
        on_failure: called with the reason for each request that is refused, also those that are not logged.
    """

    def __init__(
        self,
        settings: Settings,
        failed_proofs: FailedProofs,
        refusals: RefusalLog,
        *,
        on_failure: Callable[[str], None],
    ) -> None:
        self._on_failure = on_failure
        self._failed_proofs = failed_proofs
        self._refusals = refusals
        self._is_open = settings.is_open
        self._read = _bytes_of(settings.api_read_tokens)
        self._admin = _bytes_of(settings.api_admin_tokens)

    def access_of(self, headers: Mapping[bytes, bytes]) -> Access:
        """What the request's token allows. Without any credentials set, everything except placing calls."""
        if self._is_open:
            return Access.ADMIN
        token = bearer_token(headers)
        if token is None:
            return Access.OPEN
        if is_any_of(token, self._admin):
            return Access.DIAL
        return Access.READ if is_any_of(token, self._read) else Access.OPEN

    def verify(self, scope: Scope, needed: Access) -> None:
        """Return if the request may pass.

        Raises:
            UnauthorizedError: the token is missing or unknown.
            TooManyRequestsError: the token is missing or unknown for the 31st time within 60 s from this address.
            ForbiddenError: an admin token is needed; the token is a read token, or no credentials are set.
        """
        if needed is Access.OPEN:
            return
        access = self.access_of(scope["named_headers"])
        if access is Access.OPEN:
            now_s = time.monotonic()
            self._on_failure(NO_BEARER if bearer_token(scope["named_headers"]) is None else UNKNOWN_BEARER)
            self._refusals.admit(scope, now_s)
            self._failed_proofs.count(scope, now_s)
            raise UnauthorizedError("A valid token is needed: Authorization: Bearer <token>", headers=_CHALLENGE)
        if access < needed:
            self._on_failure(LACKS_ADMIN)
            if self._is_open:
                raise ForbiddenError("Placing calls always needs an admin token: set API_ADMIN_TOKENS")
            raise ForbiddenError("This needs an admin token")


def _bytes_of(secrets: tuple[Secret, ...]) -> tuple[bytes, ...]:
    return tuple(secret.reveal().encode() for secret in secrets)
