"""How much memory a replica has."""

from __future__ import annotations

from pathlib import Path

from tests.support.replica import Replica


def memory_of(replica: Replica) -> int:
    """Bytes that the process has in memory."""
    return int(Path(f"/proc/{replica.pid}/statm").read_text().split()[1]) * 4096
