"""What a record takes in Redis's memory, and what of it is what."""

from __future__ import annotations

import random
from statistics import mean

from redis import Redis

from service.store.keys import BUCKETS, Keys, bucket_of
from tests.bench import sections
from tests.bench.bed import Bed
from tests.bench.filling import Filling, call_id, phone_of

SAMPLED = 1000


def footprint_of(up: Bed, filling: Filling) -> str:
    """A table: bytes per record, by kind of key."""
    redis = up.connect()
    keys = Keys("vapi")
    kinds = {"the call's hash, with its key": mean_bytes_of_calls(redis, filling.size)}
    kinds |= {f"index `{name}`": _index_bytes(redis, keys, place) / filling.size for place, name in enumerate(_INDICES)}
    kinds["index `phone:<number>`"] = mean(_phone_bytes(redis, keys, filling.size))
    total = filling.bytes_per_record()
    kinds["table of keys, expiries and the rest"] = total - sum(kinds.values())
    rows = [[name, f"{size:,.0f}", f"{size / total:.1%}"] for name, size in kinds.items()]
    rows.append(["**all**", f"{total:,.0f}", "100%"])
    rows.append(["resident, by the operating system", f"{up.redis.memory_kb() * 1024 / filling.size:,.0f}", ""])
    heading = (
        f"Redis's memory at {filling.size:,} records of which {filling.copied:,} are copies, bytes per record; "
        f"{filling.used_bytes() / 1e9:.2f} GB in all, in {BUCKETS} buckets:"
    )
    return f"{heading}\n\n" + sections.table(("what", "bytes", "share"), rows)


def mean_bytes_of_calls(redis: Redis, size: int) -> float:
    keys = Keys("vapi")
    numbers = random.Random(1).sample(range(size), min(SAMPLED, size))
    return mean(redis.memory_usage(keys.call(call_id(number)), samples=0) for number in numbers)


_INDICES = ("expiry", "updates", "partial")


def _index_bytes(redis: Redis, keys: Keys, place: int) -> int:
    return sum(redis.memory_usage(indices[place], samples=0) or 0 for indices in keys.indices)


def _phone_bytes(redis: Redis, keys: Keys, size: int) -> list[float]:
    """Of sampled numbers, what one call's entry takes."""
    found = []
    for number in random.Random(2).sample(range(size), min(SAMPLED, size)):
        key = keys.phones[bucket_of(call_id(number))] + phone_of(number).encode()
        found.append((redis.memory_usage(key, samples=0) or 0) / max(1, redis.zcard(key)))
    return found
