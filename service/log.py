"""Structured logs on standard output: one JSON line an event, or readable lines on a terminal."""

from __future__ import annotations

import asyncio
import logging
import sys
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
    renderers: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(pad_event_to=28)]
        if on_terminal
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_to_json)]
    )
    lines: Any = LazilyFlushed(sys.stdout.buffer)
    factory: Any = structlog.PrintLoggerFactory() if on_terminal else structlog.BytesLoggerFactory(lines)
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


def _to_json(event: Any, **_: Any) -> bytes:
    return msgspec.json.encode(event, enc_hook=repr)


def _to_text(event: Any, **_: Any) -> str:
    return _to_json(event).decode()


def _route_standard_logging(
    level: int, shared: list[structlog.typing.Processor], renderers: list[structlog.typing.Processor]
) -> None:
    text_renderers = [
        structlog.processors.JSONRenderer(serializer=_to_text)
        if isinstance(renderer, structlog.processors.JSONRenderer)
        else renderer
        for renderer in renderers
    ]
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *text_renderers],
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
