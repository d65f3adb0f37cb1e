"""Finds out which of two URL styles Kestra understands: 2.0 renamed the actions on executions."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Literal

import msgspec
import structlog

from service.config import Settings
from service.errors import UpstreamError
from service.kestra.connection import decode

if TYPE_CHECKING:
    from service.outbound import HttpAnswer

log = structlog.get_logger(__name__)

Style = Literal["v1", "v2"]

CONFIGS: Final = "/api/v1/configs"
"""The route that gives the version, to users who may see it."""

NO_VERSION: Final = (
    "Kestra does not tell its version; check the path of KESTRA_URL, or set KESTRA_API_STYLE to v1 or v2"
)
WRONG_STYLE: Final = "Kestra has the execution, but does not know the request to resume it; check KESTRA_API_STYLE"


class ConfigsAnswer(msgspec.Struct, frozen=True):
    version: str


class ApiVersion:
    """The style: ``KESTRA_API_STYLE``, or the one of Kestra's version. The version is cached until ``forget``."""

    def __init__(self, settings: Settings, ask: Callable[[str], Awaitable[HttpAnswer]]) -> None:
        self._ask = ask
        self._setting: Style | None = None if settings.kestra_api_style == "auto" else settings.kestra_api_style
        self._detected: Style | None = None

    async def get(self) -> Style:
        """The style to use; it is never guessed.

        Raises:
            UpstreamError: Kestra does not give its version.
        """
        if self._setting is not None:
            return self._setting
        if self._detected is None:
            self._detected = style_of(await self._ask(CONFIGS))
            log.info("kestra.detected", style=self._detected)
        return self._detected

    async def get_version(self) -> str:
        """The version as Kestra writes it. Asks each time.

        Raises:
            UpstreamError: Kestra does not give its version.
        """
        answer = await self._ask(CONFIGS)
        style_of(answer)
        return decode(answer, ConfigsAnswer).version

    async def get_other(self, tried: Style) -> Style:
        """The style to use after Kestra did not know ``tried``: Kestra may have been upgraded.

        Raises:
            UpstreamError: the style is still the same.
        """
        self.forget()
        style = await self.get()
        if style == tried:
            raise UpstreamError(WRONG_STYLE)
        return style

    def verify(self, answer: HttpAnswer) -> None:
        """Check that an answer to CONFIGS is usable.

        Raises:
            UpstreamError: it is not.
        """
        if not answer.is_success:
            raise UpstreamError(NO_VERSION)
        if self._setting is None:
            style_of(answer)

    def forget(self) -> None:
        """Detect the version again next time. Call it after an error: the cause may be an upgrade."""
        self._detected = None


def style_of(answer: HttpAnswer) -> Style:
    """The style, by the version in an answer to CONFIGS; https://github.com/kestra-io/kestra/issues/15924.

    Raises:
        UpstreamError: the answer has no version.
    """
    version = re.match(r"v?(\d{1,3})\.", decode(answer, ConfigsAnswer).version) if answer.is_success else None
    if version is None:
        raise UpstreamError(NO_VERSION)
    return "v1" if int(version[1]) < 2 else "v2"
