"""How long after a webhook's 200 on replica A an event of its call leaves replica B, where streams are parked.

    python -m tests.bench.streams [--quick] [--parked 5000] [--webhooks 500] [--per-second 50]

As tests/bench/wake.py, with streams of the calls' events instead of polls, each on a call of its own.
"""

from __future__ import annotations

from tests.bench import sections
from tests.bench.parker import raise_file_limit
from tests.bench.wake import beds, wake_row

STREAMS = b"vapi_streams_open"

HOW_TO_READ = (
    "As in Waking parked polls, with a stream of each call's events instead of a poll. Delay: from the last byte of the "
    "webhook's 200 on A, as read by its sender, to the first byte of the final event on B."
)


def main() -> None:
    options = sections.options(__doc__)
    options.add_argument("--parked", type=int, default=5000)
    options.add_argument("--webhooks", type=int, default=500)
    options.add_argument("--per-second", type=float, default=50)
    chosen = options.parse_args()
    raise_file_limit()
    if chosen.quick:
        chosen.parked, chosen.webhooks = 500, 50
    with beds() as up:
        row = wake_row(up, chosen.parked, chosen.webhooks, chosen.per_second, "--streams", gauge=STREAMS)
    columns = ("streams parked", "kB each", "webhooks", "p50, ms", "p90", "p99", "worst", "answered", "not 200")
    parts = [sections.head("Streams of events", HOW_TO_READ), sections.table(columns, [row])]
    sections.publish("\n\n".join(parts), is_quick=chosen.quick)


if __name__ == "__main__":
    main()
