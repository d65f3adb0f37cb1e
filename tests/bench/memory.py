"""What a record takes in Redis, and whether Redis's own settings or another layout would make it less.

    python -m tests.bench.memory [--quick] [--records 40000]

Also what is in a record, and what the indices take in more or fewer pieces.
"""

from __future__ import annotations

import time
import zlib
from typing import Final

from redis import Redis

from service.store.keys import BUCKETS, Keys
from tests.bench import sections
from tests.bench.bed import Bed, bed
from tests.bench.filling import TTL_S, Filling, call_id
from tests.bench.footprint import mean_bytes_of_calls
from tests.bench.workloads import POLL, REPORT, all_workloads

VARIANTS: Final[dict[str, tuple[str, ...]]] = {
    "Redis as it comes": (),
    "hash-max-listpack-value 65536: a record is one string": ("--hash-max-listpack-value", "65536"),
    "zset-max-listpack-entries 2048: small indices are one string": ("--zset-max-listpack-entries", "2048"),
}
INDEX_ENTRIES: Final = 100_000
LAYOUTS: Final = (1, BUCKETS, 1024, 8192)

HOW_TO_READ: Final = (
    "Records of the 23 kB report, as in Growth, and what it costs Redis to merge such a report into a stored one and to "
    "read a full record, microseconds of its processor under wrk."
)


def main() -> None:
    options = sections.options(__doc__)
    options.add_argument("--records", type=int, default=40_000)
    chosen = options.parse_args()
    records = 5_000 if chosen.quick else chosen.records
    rows, extra = [], ""
    for name, redis_options in VARIANTS.items():
        with bed(redis_options=redis_options, RESULT_TTL_S=str(TTL_S)) as up:
            rows.append([name, *variant_cells(up, records, 1 if chosen.quick else 3)])
            extra = extra or "\n\n".join((contents_of(up.connect()), layouts_of(up.connect())))
    columns = ("Redis's settings", "bytes a record", "of them its hash", "merge, Redis us", "read, Redis us")
    head = sections.head("Memory per record", f"{records:,} records. {HOW_TO_READ}")
    sections.publish("\n\n".join([head, sections.table(columns, rows), extra]), is_quick=chosen.quick)


def variant_cells(up: Bed, records: int, seconds: int) -> list[str]:
    workloads = {workload.name: workload for workload in all_workloads()}
    filling = Filling(up)
    filling.grow_to(records)
    sizes = filling.bytes_per_record(), mean_bytes_of_calls(up.connect(), filling.size)
    times = up.saturate(workloads[REPORT], seconds).redis_us, up.saturate(workloads[POLL], seconds).redis_us
    return [*(f"{size:,.0f}" for size in sizes), *(f"{us:.1f}" for us in times)]


def contents_of(redis: Redis) -> str:
    """The fields of one record: their bytes, and what compressing the large ones would bring."""
    fields = redis.hgetall(Keys("vapi").call(call_id(7)))
    rows = []
    for name, value in sorted(fields.items(), key=lambda each: -len(each[1])):
        if len(value) < 256:
            continue
        started = time.perf_counter()
        small = zlib.compress(value, 1)
        packed = time.perf_counter()
        zlib.decompress(small)
        unpacked = time.perf_counter()
        times = [f"{1e6 * each:.0f}" for each in (packed - started, unpacked - packed)]
        rows.append([f"`{name.decode()}`", f"{len(value):,}", f"{len(small):,}", *times])
    total = sum(len(name) + len(value) for name, value in fields.items())
    columns = ("field", "bytes", "by zlib, level 1", "compress, us", "decompress, us")
    heading = f"One record holds {total:,} bytes of names and values; its fields above 256 bytes:"
    return f"{heading}\n\n{sections.table(columns, rows)}"


def layouts_of(redis: Redis) -> str:
    """What an index entry takes when the index is one sorted set or many."""
    rows = []
    for buckets in LAYOUTS:
        before = int(redis.info("memory")["used_memory"])
        pipeline = redis.pipeline(transaction=False)
        for number in range(INDEX_ENTRIES):
            pipeline.zadd(f"layout:{number % buckets}", {call_id(number): 1_788_264_000_000 + number})
            if number % 10_000 == 9_999:
                pipeline.execute()
        pipeline.execute()
        each = (int(redis.info("memory")["used_memory"]) - before) / INDEX_ENTRIES
        rows.append([f"{buckets:,}", f"{each:.0f}"])
        redis.delete(*(f"layout:{bucket}" for bucket in range(buckets)))
    heading = f"An index of {INDEX_ENTRIES:,} calls over so many sorted sets:"
    return f"{heading}\n\n{sections.table(('buckets', 'bytes an entry'), rows)}"


if __name__ == "__main__":
    main()
