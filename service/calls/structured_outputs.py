"""Takes from a call's structured outputs what its analysis lacks."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from service.calls.analysis_schema import SUCCESS_OUTPUT, SUMMARY_OUTPUT, StructuredCallData
from service.calls.facts import BLANK, Facts

STRUCTURED_FIELDS: Final = frozenset(StructuredCallData.__struct_fields__)
ENOUGH_STRUCTURED_FIELDS: Final = len(STRUCTURED_FIELDS) // 2
"""VAPI's model leaves keys out. An output with half of our fields is ours; one that only shares "notes" is not."""

_NULL: Final = b"null"
_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])
_decode_text: Final = msgspec.json.Decoder(str).decode


def filled_from_outputs(facts: Facts) -> Facts:
    """The facts, with what the analysis lacks taken from the structured outputs."""
    if facts.analysis_summary and facts.analysis_success_evaluation and facts.analysis_structured_data:
        return facts
    outputs = _OBJECT.decode(facts.structured_outputs)
    return replace(
        facts,
        analysis_summary=facts.analysis_summary or _text_of(outputs, SUMMARY_OUTPUT),
        analysis_success_evaluation=facts.analysis_success_evaluation or _text_of(outputs, SUCCESS_OUTPUT),
        analysis_structured_data=facts.analysis_structured_data or _find_structured_data(outputs),
    )


def _text_of(outputs: dict[str, Raw], name: str) -> bytes:
    """A scalar output as a JSON string; empty if it is missing, blank or not a scalar."""
    text = bytes(outputs.get(name, _NULL))  # a number is not decoded: it may be too large for any type
    if text[:1] == b'"':
        return b"" if BLANK.fullmatch(_decode_text(text)) else text
    return b"" if text[:1] in b"[{" or text == b"null" else b'"%b"' % text


def _find_structured_data(outputs: dict[str, Raw]) -> bytes:
    """The output with the most fields of our own schema; empty if none has enough of them."""
    best, most = b"", ENOUGH_STRUCTURED_FIELDS - 1
    for result in outputs.values():
        text = bytes(result)
        if text[:1] == b"{" and (shared := len(STRUCTURED_FIELDS & _OBJECT.decode(text).keys())) > most:
            best, most = text, shared
    return best
