"""Writes archived calls as lines of JSON or CSV."""

from __future__ import annotations

import csv
import io
from typing import Final, Literal

import msgspec

from service.calls.call_record import CallRecord
from service.calls.record import render_record
from service.calls.stamped_call import StampedCall

ExportFormat = Literal["ndjson", "csv"]

COLUMNS: Final = CallRecord.__struct_fields__


def first_line(form: ExportFormat) -> str:
    """What comes before the calls."""
    return _csv_line(list(COLUMNS)) if form == "csv" else ""


def line_of(stamped: StampedCall, form: ExportFormat) -> str:
    """One call: its record as a poll shows it. In CSV objects and arrays are JSON text, and null is empty."""
    record = render_record(stamped.call, "full")
    if form == "ndjson":
        return record.decode() + "\n"
    values: dict[str, msgspec.Raw] = msgspec.json.decode(record, type=dict[str, msgspec.Raw])
    return _csv_line([_cell(bytes(values[name])) for name in COLUMNS])


def _cell(text: bytes) -> str:
    if text[:1] == b'"':
        plain: str = msgspec.json.decode(text)
        return plain
    return "" if text == b"null" else text.decode()


def _csv_line(cells: list[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()
