"""The log behind the streams of all calls' events: what a reader gets that was slow, or away."""

from __future__ import annotations

from service.jobs.change_log import EVENTS_AT_ONCE, MAX_CALLS, ChangeLog


def test_a_slow_reader_gets_the_latest_of_each_call() -> None:
    """However often a call changed meanwhile."""
    log = ChangeLog()
    for version in range(1, 1001):
        log.add_change(b"busy", b"%d" % version, b'"%d"' % version)
        log.add_change(b"calm", b"1", b'"once"')
    events = log.find_after(0)
    assert events is not None
    assert (events.count, events.position) == (2, log.position)
    assert events.text.index(b'"once"') < events.text.index(b'"1000"')
    assert log.find_after(events.position) is None


def test_the_log_is_bounded_and_tells_of_what_it_dropped() -> None:
    log = ChangeLog()
    for number in range(MAX_CALLS + 10):
        log.add_change(b"%d" % number, b"1", b"{}")
    gap = log.find_after(3)
    assert gap is not None
    assert (gap.text[:10], gap.position) == (b"event: gap", 10)
    position, counts = gap.position, []
    while (events := log.find_after(position)) is not None:
        counts.append(events.count)
        position = events.position
    assert (sum(counts), max(counts)) == (MAX_CALLS, EVENTS_AT_ONCE)
