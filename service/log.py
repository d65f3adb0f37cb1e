"""Structured logs on standard output: one JSON line an event, or readable lines on a terminal."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from typing import Any, BinaryIO, Final

import msgspec
import structlog

from service.config import Settings

FLUSH_WITHIN_S: Final = 0.05

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure_logs(settings: Settings) -> None:
    """Set up structlog and send the standard library's loggers (uvicorn's, asyncio's) through it."""
    level = _LEVELS[settings.log_level]
    on_terminal = settings.log_format == "console" or (settings.log_format == "auto" and sys.stdout.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    lines: Any = LazilyFlushed(sys.stdout.buffer)
    factory: Any = structlog.PrintLoggerFactory() if on_terminal else structlog.BytesLoggerFactory(lines)
    renderers: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(pad_event_to=28)]
        if on_terminal
        else [structlog.processors.format_exc_info, JSONLines()]
    )
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    _route_standard_logging(level, shared, renderers)


class LazilyFlushed:
    """A stream whose flushes wait a little for one another: a system call per line costs more than the line.

    What a killed process had not flushed, at most FLUSH_WITHIN_S of lines, is gone with it.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._is_waiting = False
        self.write = stream.write

    def flush(self) -> None:
        if self._is_waiting:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._stream.flush()
        else:
            self._is_waiting = True
            loop.call_later(FLUSH_WITHIN_S, self._flush_now)

    def _flush_now(self) -> None:
        self._is_waiting = False
        self._stream.flush()


class JSONLines:
    """The last processor: an event as one line of JSON."""

    def __init__(self) -> None:
        self._encoder = msgspec.json.Encoder(enc_hook=repr)

    def __call__(self, _: Any, __: str, event: Any) -> bytes:
        return self._encoder.encode(event)


class AccessLog:
    """Writes the line that every request leaves.

    As JSON it goes past structlog's processors, none of which it needs: they cost more than the rest of the line.
    """

    def __init__(self) -> None:
        self._log = structlog.get_logger("access")
        self._clock = Clock()
        config = structlog.get_config()
        self._render = config["processors"][-1]
        is_json = isinstance(self._render, JSONLines) and self._log.is_enabled_for(logging.INFO)
        self._write = config["logger_factory"]().info if is_json else None

    def finished(self, fields: dict[str, Any], *, is_routine: bool) -> None:
        """Say that a request was answered; a routine one, such as a health check, only at the debug level.

        ``fields`` is not the caller's any more.
        """
        if is_routine:
            self._log.debug("request.finished", **fields)
        elif self._write is None:
            self._log.info("request.finished", **fields)
        else:
            fields["event"], fields["level"], fields["timestamp"] = "request.finished", "info", self._clock.iso()
            self._write(self._render(None, "info", fields))


class Clock:
    """Now, as ISO 8601 in UTC: the second is written once, not for each line."""

    def __init__(self) -> None:
        self._second = 0
        self._text = ""

    def iso(self) -> str:
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second, self._text = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._text}.{int((now - second) * 1e6):06d}Z"


def _route_standard_logging(
    level: int, shared: list[structlog.typing.Processor], renderers: list[structlog.typing.Processor]
) -> None:
    handler = logging.StreamHandler(sys.stdout)
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
    """The same, for the standard library's handlers, which want text."""

    def decoded(logger: Any, name: str, event: Any) -> str:
        rendered = renderers[-1](logger, name, event)
        return rendered.decode() if isinstance(rendered, bytes) else str(rendered)

    return [*renderers[:-1], decoded]
