"""Messages and changes of one call, as hypothesis draws them for the properties of the merge."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from service.calls.facts import FACTS, Facts
from service.calls.stored_call import CallChange

PROPERTY: Final = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])

EMPTY: Final[tuple[Any, ...]] = (None, "", [], {})
TIMESTAMPS = st.sampled_from((None, 0, 1, 1000, 2000, "2026-09-01T12:00:00Z", "1970-01-01T00:00:02Z", 2**53, -5, "x"))
COMMON = st.fixed_dictionaries(
    {"timestamp": TIMESTAMPS},
    optional={
        "customer": st.sampled_from((*EMPTY, {"number": "+18645550123"}, {"number": "+18645550124"})),
        "endedReason": st.sampled_from(
            (*EMPTY, "voicemail", "customer-busy", "assistant-ended-call", "pipeline-error")
        ),
    },
)
CALLS = st.fixed_dictionaries(
    {"id": st.just("call-1")},
    optional={
        "status": st.sampled_from((*EMPTY, "queued", "ringing", "ended", "odd")),
        "assistantId": st.sampled_from((*EMPTY, "assistant-a", "assistant-b")),
        "metadata": st.sampled_from((*EMPTY, {"urgency": "immediate"}, {"urgency": "flexible", "own": 0})),
    },
)
STATUS_UPDATES = st.sampled_from(("scheduled", "queued", "ringing", "in-progress", "forwarding", "ended", "odd", None))
RESULTS = st.fixed_dictionaries(
    {},
    optional={
        "durationSeconds": st.sampled_from((*EMPTY, 0, 26.26, "61")),
        "cost": st.sampled_from((*EMPTY, 0, 0.5, "x")),
        "startedAt": st.sampled_from((*EMPTY, "2026-09-01T12:00:00.000Z", 1_788_264_000)),
        "endedAt": st.sampled_from((*EMPTY, "2026-09-01T12:01:30.000Z")),
        "analysis": st.sampled_from((*EMPTY, {"summary": ""}, {"summary": "A"}, {"structuredData": {"a": 1}})),
        "artifact": st.sampled_from(
            (*EMPTY, {"transcript": "AI: Hi."}, {"transcript": "AI: Hi. Bye.", "messages": [1]}, {"messages": [2, {}]})
        ),
    },
)


def _body(type_: str, *parts: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {"type": type_}
    for part in parts:
        content |= part
    return {"message": content}


BODIES = st.one_of(
    st.builds(lambda common, call, status: _body("status-update", common, {"call": call, "status": status}),
              COMMON, CALLS, STATUS_UPDATES),
    st.builds(lambda common, call, results: _body("end-of-call-report", common, {"call": call}, results),
              COMMON, CALLS, RESULTS),
    st.builds(lambda common, call: _body("speech-update", common, {"call": call}), COMMON, CALLS),
)  # fmt: skip

FRAGMENTS = st.sampled_from((b'"a"', b'"b"', b'"ba"', '"ä"'.encode()))
CHANGES = st.builds(
    CallChange,
    call_id=st.just(b"call-1"),
    rank=st.integers(0, 9),
    timestamp_ms=st.sampled_from((0, 0, 1, 2, 2**53 - 1)),
    status=st.integers(0, 6),
    ending=st.integers(0, 3),
    rules_out_analysis=st.booleans(),
    facts=st.dictionaries(st.sampled_from(FACTS), FRAGMENTS, max_size=12).map(lambda texts: Facts(**texts)),
)
