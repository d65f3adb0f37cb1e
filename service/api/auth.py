"""The callers' tokens and their two scopes. VAPI's proof is in vapi/authentication.py."""

from __future__ import annotations

import time
from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from starlette.types import Scope

from service.api.limits import FailedProofs, RefusalLog
from service.config import Secret, Settings
from service.errors import ForbiddenError, UnauthorizedError
from service.vapi.authentication import bearer_token, is_any_of


class Access(IntEnum):
    """What a route asks of its caller."""

    OPEN = 0
    READ = 1
    ADMIN = 2
    DIAL = 3
    """An admin's token even where nothing is set at all and everything else is open: it costs money, and phones people."""


_CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}


class CallerTokens:
    """Who may do what, from ``API_READ_TOKENS`` and ``API_ADMIN_TOKENS``."""

    def __init__(self, settings: Settings, failed_proofs: FailedProofs, refusals: RefusalLog) -> None:
        self._failed_proofs = failed_proofs
        self._refusals = refusals
        self._is_open = settings.is_open
        self._read = _bytes_of(settings.api_read_tokens)
        self._admin = _bytes_of(settings.api_admin_tokens)

    def access_of(self, headers: Mapping[bytes, bytes]) -> Access:
        """What the request's token allows; where nothing is set at all, everything but to dial."""
        if self._is_open:
            return Access.ADMIN
        token = bearer_token(headers)
        if token is None:
            return Access.OPEN
        if is_any_of(token, self._admin):
            return Access.DIAL
        return Access.READ if is_any_of(token, self._read) else Access.OPEN

    def verify(self, scope: Scope, needed: Access) -> None:
        """Let the request pass or say why not.

        Raises:
            UnauthorizedError: no token, or one that we do not know.
            TooManyRequestsError: the same, for the 31st time within 60 s from this address.
            ForbiddenError: a token that may read only, or none at all, where an admin's is needed.
        """
        if needed is Access.OPEN:
            return
        access = self.access_of(scope["named_headers"])
        if access is Access.OPEN:
            now_s = time.monotonic()
            self._refusals.admit(scope, now_s)
            self._failed_proofs.count(scope, now_s)
            raise UnauthorizedError("A valid token is needed: Authorization: Bearer <token>", headers=_CHALLENGE)
        if access < needed and self._is_open:
            raise ForbiddenError("Placing calls always needs an admin token: set API_ADMIN_TOKENS")
        if access < needed:
            raise ForbiddenError("This needs an admin token")


def _bytes_of(secrets: tuple[Secret, ...]) -> tuple[bytes, ...]:
    return tuple(secret.reveal().encode() for secret in secrets)
