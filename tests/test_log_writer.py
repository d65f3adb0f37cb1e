"""The writer of log lines."""

from __future__ import annotations

import os
import select

from service.log_writer import LogWriter
from tests.support.eventually import PATIENCE_S


def test_a_line_is_written_without_a_flush() -> None:
    """Python writes tracebacks and warnings to stderr without one."""
    reader, descriptor = os.pipe()
    try:
        LogWriter(descriptor).write(b"line\n")
        readable, _, _ = select.select([reader], [], [], PATIENCE_S)
        assert readable
        assert os.read(reader, 100) == b"line\n"
    finally:
        os.close(reader)
        os.close(descriptor)
