"""Asking all buckets at once: a lost shard of a Cluster takes its own answers away, not those of the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Final, Generic, TypeVar

import msgspec

from service.errors import StoreUnavailableError
from service.store.keys import BUCKETS

ASKED_FOR_SHARE: Final = 0.8
"""Of ``STORE_TIMEOUT_S``: a request that first asks all buckets still has to read what the living ones named."""

Reply = TypeVar("Reply")


class BucketReplies(msgspec.Struct, Generic[Reply], frozen=True):
    """Of every bucket either its reply or its number."""

    replies: dict[int, Reply]
    missing: tuple[int, ...]
    """The buckets that did not answer within ``STORE_TIMEOUT_S``."""


def broad_deadline(store_timeout_s: float) -> float:
    """By ``time.monotonic``: until when a request that began now may wait for buckets that do not answer."""
    return time.monotonic() + ASKED_FOR_SHARE * store_timeout_s


async def ask_all_buckets(
    ask: Callable[[int], Awaitable[Reply]], buckets: Collection[int] = range(BUCKETS)
) -> BucketReplies[Reply]:
    """What each bucket answered to ``ask(bucket)``.

    Raises:
        StoreUnavailableError: none did.
    """
    outcomes = await asyncio.gather(*map(ask, buckets), return_exceptions=True)
    replies: dict[int, Reply] = {}
    missing: list[int] = []
    for bucket, outcome in zip(buckets, outcomes, strict=True):
        if isinstance(outcome, StoreUnavailableError):
            missing.append(bucket)
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            replies[bucket] = outcome
    if not replies and isinstance(outcomes[0], StoreUnavailableError):
        raise outcomes[0]
    return BucketReplies(replies, tuple(missing))
