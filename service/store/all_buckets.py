"""Asks all buckets at once. When a shard of a Cluster is lost, only the answers of its own buckets are missing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Generic, TypeVar

import msgspec

from service.errors import StoreUnavailableError
from service.store.keys import BUCKETS

Reply = TypeVar("Reply")


class BucketReplies(msgspec.Struct, Generic[Reply], frozen=True):
    """Every bucket is either in ``replies`` or in ``missing``."""

    replies: dict[int, Reply]
    missing: tuple[int, ...]
    """The buckets that did not answer within ``STORE_TIMEOUT_S``."""


async def ask_all_buckets(
    ask: Callable[[int], Awaitable[Reply]], buckets: Collection[int] = range(BUCKETS)
) -> BucketReplies[Reply]:
    """What each bucket answered to ``ask(bucket)``.

    Raises:
        StoreUnavailableError: no bucket answered.
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
