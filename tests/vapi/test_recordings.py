"""Where a report's recording is, and that no signature of a presigned address is kept."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.call_record import change_by, facts_of, intake_of
from tests.support.for_each import for_each
from tests.support.vapi_sender import message

PLAIN = "https://storage.example/recordings/a-mono.wav"
STEREO = "https://storage.example/recordings/a-stereo.wav"
OTHER = "https://storage.example/recordings/other.wav"


def report(artifact: object = None, **fields: Any) -> dict[str, Any]:
    return message("end-of-call-report", artifact=artifact, **fields)


@for_each(
    ("body", "url"),
    [
        (report({"recordingUrl": PLAIN, "stereoRecordingUrl": STEREO}), PLAIN),
        (report({"recording": {"mono": {"combinedUrl": PLAIN}, "stereoUrl": STEREO}}), PLAIN),
        (report({"recording": PLAIN}), PLAIN),
        (report({"stereoRecordingUrl": STEREO}), STEREO),
        (report({"recording": {"stereoUrl": STEREO}}), STEREO),
        (report({"recording": {"mono": None, "stereoUrl": STEREO}}), STEREO),
        (report({"recording": {"mono": {"combinedUrl": None}, "stereoUrl": STEREO}}), STEREO),
        (report({"recordingUrl": PLAIN, "recording": {"mono": {"combinedUrl": OTHER}}}), PLAIN),
        (report({"recording": {"mono": {"combinedUrl": PLAIN}}, "stereoRecordingUrl": OTHER}), PLAIN),
        (report({"recording": PLAIN, "stereoRecordingUrl": OTHER}), PLAIN),
        (report({"stereoRecordingUrl": STEREO, "recording": {"stereoUrl": OTHER}}), STEREO),
        (report({"stereoRecordingUrl": STEREO}, recordingUrl=OTHER), STEREO),
        (report(None, recordingUrl=PLAIN, stereoRecordingUrl=STEREO), PLAIN),
        (report({}, recordingUrl="", stereoRecordingUrl=STEREO), STEREO),
        (report({"recordingUrl": None}, recordingUrl=PLAIN), PLAIN),
        (report(None, recordingUrl=PLAIN, call={"id": "c", "recordingUrl": OTHER}), PLAIN),
        (report(None, call={"id": "c", "recordingUrl": PLAIN, "artifact": {"recordingUrl": OTHER}}), OTHER),
        (report(None, call={"id": "c", "recordingUrl": PLAIN}), PLAIN),
        (report(None, call={"id": "c", "artifact": {"recording": {"mono": {"combinedUrl": PLAIN}}}}), PLAIN),
        (report({"recording": {}}), None),
        (report({"recording": None}), None),
        (report({"presignedMonoUrl": PLAIN + "?X-Amz-Signature=1", "videoRecordingUrl": OTHER}), None),
        (report(), None),
    ],
)
def test_the_recording_is_found_wherever_it_stands(body: dict[str, Any], url: str | None) -> None:
    assert facts_of(body).get("recording_url") == url


@pytest.mark.parametrize("recording", [5, True, [PLAIN], [], "", 0])
def test_an_odd_recording_leaves_the_other_addresses(recording: object) -> None:
    expected = str(recording).lower() if isinstance(recording, bool | int) else STEREO
    assert facts_of(report({"recording": recording, "stereoRecordingUrl": STEREO}))["recording_url"] == expected


@pytest.mark.parametrize("mono", [5, "text", [PLAIN], True])
def test_an_odd_part_of_a_recording_is_counted(mono: object) -> None:
    assert intake_of(report({"recording": {"mono": mono}})).dropped == 1


@pytest.mark.parametrize("mono", [5, "text", [PLAIN], True])
def test_an_odd_part_of_a_recording_leaves_its_other_parts(mono: object) -> None:
    assert facts_of(report({"recording": {"mono": mono, "stereoUrl": STEREO}})).get("recording_url") == STEREO


@for_each(
    "query",
    [
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=1800&X-Amz-Signature=abcd",
        "x-amz-signature=abcd",
        "X-Goog-Signature=abcd&X-Goog-Expires=1800",
        "GoogleAccessId=x&Expires=1788264000&Signature=abcd",
        "AWSAccessKeyId=x&Signature=abcd&Expires=1",
        "sv=2024&se=2026-09-01&sr=b&sp=r&sig=abcd",
        "Policy=abcd&Signature=abcd&Key-Pair-Id=K1",
        "download=1&token=abcd",
        "response-content-type=audio%2Fwav&X-Amz-Security-Token=abcd#t=5",
    ],
)
@for_each("place", ["recordingUrl", "stereoRecordingUrl", "recording"])
def test_a_presigned_address_loses_its_query(place: str, query: str) -> None:
    change = change_by(report({place: f"{PLAIN}?{query}"}))
    assert facts_of(report({place: f"{PLAIN}?{query}"}))["recording_url"] == PLAIN
    assert b"abcd" not in b"".join(change.facts.known().values())


@pytest.mark.parametrize("query", ["", "download=1", "id=5&format=wav", "signed=no", "assignature=1", "v=sig"])
def test_an_address_that_is_not_presigned_stays_as_it_is(query: str) -> None:
    assert facts_of(report({"recordingUrl": f"{PLAIN}?{query}"}))["recording_url"] == f"{PLAIN}?{query}"


@pytest.mark.parametrize(
    "written",
    [
        '"https:\\/\\/storage.example\\/a.wav?X-Amz-Signature\\u003dabcd"',
        '"https://storage.example/a.wav?\\u0058-Amz-Signature=abcd"',
        '"https://storage.example/a.wav?a=1\\u0026X-Amz-Signature=abcd"',
        pytest.param('"https://storage.example/a.wav\\u003fX-Amz-Signature=abcd"'),
    ],
)
def test_a_presigned_address_loses_its_query_however_it_is_escaped(written: str) -> None:
    body = b'{"message":{"type":"end-of-call-report","call":{"id":"c"},"recordingUrl":%b}}' % written.encode()
    assert facts_of(body)["recording_url"] == "https://storage.example/a.wav"


@pytest.mark.parametrize("text", ["not an address", "http://x.example", "s3://bucket/key", "a?b", "é ✓?x=1"])
def test_what_is_no_address_is_kept_as_the_text_it_is(text: str) -> None:
    assert facts_of(report({"recordingUrl": text}))["recording_url"] == text


def test_an_address_that_cannot_be_read_is_dropped_and_counted() -> None:
    body = report({"recordingUrl": "https://[storage?X-Amz-Signature=abcd"})
    assert "recording_url" not in facts_of(body)
    assert intake_of(body).dropped == 1


def test_after_an_address_that_cannot_be_read_the_next_place_serves() -> None:
    body = report({"recordingUrl": "https://[storage?a=1", "stereoRecordingUrl": STEREO})
    assert facts_of(body).get("recording_url") == STEREO
