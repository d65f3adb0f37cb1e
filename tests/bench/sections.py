"""The results file: one section per benchmark, each replaced by itself when it is run again."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.bench.peers import CACHE
from tests.bench.servers import CORES

RESULTS = Path(__file__).parent / "results.md"

_HEADING = re.compile(r"^(?=# )", re.MULTILINE)


def options(what: str | None) -> argparse.ArgumentParser:
    """The one option that all benchmarks have."""
    parser = argparse.ArgumentParser(description=what, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke test: short, and its figures are not kept")
    return parser


def publish(text: str, *, is_quick: bool) -> None:
    """Print a section, which begins with its one ``# heading``, and put it into the results file."""
    print(text)
    put(CACHE / RESULTS.name if is_quick else RESULTS, text)


def put(path: Path, text: str) -> None:
    """Replace the section with the same heading; the others stay as they are, a new one comes last."""
    held = path.read_text() if path.exists() else ""
    sections = {_title(section): section.strip() for section in _HEADING.split(held) if section.strip()}
    sections[_title(text)] = text.strip()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(sections.values()) + "\n")


def _title(section: str) -> str:
    return section.strip().splitlines()[0]


def head(title: str, how_to_read: str) -> str:
    return f"# {title}\n\n{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {len(CORES)} cores. {how_to_read}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first column is text, the others are numbers."""
    lines = [" | ".join(columns), "|".join(["---"] + ["--:"] * (len(columns) - 1))]
    lines += [" | ".join(row) for row in rows]
    return "\n".join(f"| {line} |" if "---" not in line else f"|{line}|" for line in lines)


def quantile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
