"""Structured logs on standard output: one JSON line per event, or readable lines on a terminal."""

from __future__ import annotations

import io
import logging
import os
import sys
import time
from typing import Any, Final, TextIO

import msgspec
import structlog

from service.config import Settings
from service.log_writer import writer_to

STDOUT: Final = 1
STDERR: Final = 2

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure_logs(settings: Settings) -> None:
    """Set up structlog, and route the standard library's loggers (uvicorn's, asyncio's) through it."""
    level = _LEVELS[settings.log_level]
    _open_missing_outputs()
    lines: Any = writer_to(STDOUT)
    text = io.TextIOWrapper(lines, encoding="utf-8", errors="backslashreplace", write_through=True)
    on_terminal = settings.log_format == "console" or (settings.log_format == "auto" and os.isatty(STDOUT))
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    factory: Any = structlog.WriteLoggerFactory(text) if on_terminal else structlog.BytesLoggerFactory(lines)
    renderers: list[structlog.typing.Processor] = (
        [console_renderer()] if on_terminal else [structlog.processors.format_exc_info, JSONLines()]
    )
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    _route_standard_logging(text, level, shared, renderers)
    # Python itself writes there, for instance an exception in a destructor. That must not block us either.
    errors: Any = writer_to(STDERR)
    sys.stderr = io.TextIOWrapper(errors, encoding="utf-8", errors="backslashreplace", write_through=True)


def console_renderer() -> structlog.dev.ConsoleRenderer:
    """Readable lines. structlog's own default gives tracebacks to rich where that is installed, and rich shows the
    variables: what people said, and secrets.
    """
    return structlog.dev.ConsoleRenderer(pad_event_to=28, exception_formatter=structlog.dev.plain_traceback)


def _open_missing_outputs() -> None:
    """Open closed standard descriptors. Otherwise a socket gets their numbers and our lines, and libuv aborts."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        pass
    os.close(descriptor)


class JSONLines:
    """The last processor: renders an event as one line of JSON."""

    def __init__(self) -> None:
        self._encoder = msgspec.json.Encoder(enc_hook=repr)

    def __call__(self, _: Any, __: str, event: Any) -> bytes:
        try:
            return self._encoder.encode(event)
        except (TypeError, ValueError, RecursionError):  # such as half a surrogate pair, which is not UTF-8
            return self._encoder.encode({ascii(name): ascii(value) for name, value in event.items()})


class AccessLog:
    """Writes one access line per request.

    JSON lines bypass structlog's processors. The line needs none of them, and they cost more than the rest of the line.
    """

    def __init__(self) -> None:
        self._log = structlog.get_logger("access")
        self._clock = Clock()
        config = structlog.get_config()
        self._render = config["processors"][-1]
        is_json = isinstance(self._render, JSONLines) and self._log.is_enabled_for(logging.INFO)
        self._lines = writer_to(STDOUT) if is_json else None

    def finished(self, fields: dict[str, Any], *, is_routine: bool) -> None:
        """Log that a request was answered. Routine requests, such as health checks, are logged at the debug level only.

        This method changes ``fields``; the caller must not use them afterwards.
        """
        if is_routine:
            self._log.debug("request.finished", **fields)
        elif self._lines is None:
            self._log.info("request.finished", **fields)
        else:
            fields["event"], fields["level"], fields["timestamp"] = "request.finished", "info", self._clock.iso()
            self._lines.write(self._render(None, "info", fields) + b"\n")


class Clock:
    """The current time as ISO 8601 in UTC. The text of a second is formatted once, not for each line."""

    def __init__(self) -> None:
        self._second = 0
        self._text = ""

    def iso(self) -> str:
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second, self._text = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return "%s.%06dZ" % (self._text, (now - second) * 1e6)  # noqa: UP031 - an f-string takes five times as long


def _route_standard_logging(
    stream: TextIO, level: int, shared: list[structlog.typing.Processor], renderers: list[structlog.typing.Processor]
) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_as_text(renderers)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(max(level, logging.INFO))


def _as_text(renderers: list[structlog.typing.Processor]) -> list[structlog.typing.Processor]:
    """The same renderers, with text as output for the standard library's handlers."""

    def decoded(logger: Any, name: str, event: Any) -> str:
        rendered = renderers[-1](logger, name, event)
        return rendered.decode() if isinstance(rendered, bytes) else str(rendered)

    return [*renderers[:-1], decoded]
