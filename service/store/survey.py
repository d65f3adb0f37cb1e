"""One look over all buckets of the store: what lives, what is due, what changed. Its cost does not grow with them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import chain
from typing import Final

import msgspec

from service.config import Settings
from service.store.command import Commands
from service.store.keys import BUCKETS, Keys
from service.store.script import Script

SUBSCRIBED_AT_MOST: Final = 50
"""Calls that somebody waits for, per bucket and look; the others' turn comes at the next."""

SUBSCRIBED_EVERY_MS: Final = 5_000
"""How often the turn of such a call comes, whatever the number of replicas."""


class Survey(msgspec.Struct, frozen=True):
    """What one look over all buckets found."""

    now_ms: tuple[int, ...]
    """By each bucket's own clock: in a Cluster they are several."""
    size: int
    due: list[bytes]
    changed: list[bytes]
    newest: list[tuple[int, bytes]]
    """(updated_at in ms, call id), newest first."""
    resumable: tuple[int, ...]
    """Per bucket, the subscriptions whose execution is to be resumed now."""
    awaited: int
    """Calls that are not final and that somebody is subscribed to; those that expired still count for some seconds."""
    in_turn: list[bytes]
    """Those of them that this look took up."""


class BucketSurveys:
    """Makes surveys, with one script per bucket."""

    def __init__(self, settings: Settings, redis: Commands, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._grace_ms = settings.report_grace_ms
        self._index_ttl_ms = max(settings.result_ttl_ms, settings.pending_ttl_ms)
        self._script = Script("survey_bucket.lua")

    async def make(self, changed_since_ms: tuple[int, ...], newest: int, *, takes_turns: bool) -> Survey:
        """As CallStore.survey."""
        since = [b"%d" % moment for moment in changed_since_ms] or [b""] * BUCKETS
        replies = await asyncio.gather(
            *(
                self._script.run(
                    self._redis,
                    bucket,
                    *self._keys.indices[bucket],
                    self._grace_ms,
                    since[bucket],
                    newest,
                    SUBSCRIBED_AT_MOST if takes_turns else 0,
                    SUBSCRIBED_EVERY_MS,
                    self._keys.subscriptions[bucket],
                    self._index_ttl_ms,
                    keys=6,
                )
                for bucket in range(BUCKETS)
            )
        )
        nows, sizes, dues, changes, latest, resumable, awaited, in_turn = zip(*replies, strict=True)
        entries = [(int(float(score)), call_id) for pairs in latest for call_id, score in _pairs(pairs)]
        entries.sort(key=lambda entry: (-entry[0], entry[1]))
        return Survey(
            nows,
            sum(sizes),
            list(chain(*dues)),
            list(chain(*changes)),
            entries[:newest],
            resumable,
            sum(awaited),
            list(chain(*in_turn)),
        )


def _pairs(flat: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)
