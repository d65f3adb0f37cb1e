"""Writes that Redis did not take at once: tried again in the background, bounded, and never without a word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from service.errors import StoreRefusedError, StoreUnavailableError
from service.jobs.deferred_writes import DeferredWrites
from tests.support.eventually import eventually

EVERY_S = 0.01


class Work:
    """Fails with these errors, one after the other, then succeeds."""

    def __init__(self, *errors: type[Exception]) -> None:
        self._errors = list(errors)
        self.tries = 0
        self.is_done = False

    async def __call__(self) -> None:
        self.tries += 1
        if self._errors:
            raise self._errors.pop(0)("not now")
        self.is_done = True


@pytest.fixture
async def writes() -> AsyncIterator[DeferredWrites]:
    deferred = DeferredWrites(try_every_s=EVERY_S, tries=3, max_waiting=2)
    yield deferred
    await deferred.close()


async def test_what_redis_takes_is_written_once(writes: DeferredWrites) -> None:
    work = Work()
    await writes.write("note", work)
    await asyncio.sleep(5 * EVERY_S)
    assert (work.is_done, work.tries) == (True, 1)


async def test_what_redis_does_not_take_is_written_later(writes: DeferredWrites) -> None:
    work = Work(StoreUnavailableError, StoreUnavailableError)
    await writes.write("note", work)
    assert not work.is_done
    await eventually(lambda: work.is_done)
    assert work.tries == 3


async def test_after_so_many_tries_it_is_given_up_and_said_so(writes: DeferredWrites) -> None:
    work = Work(*[StoreUnavailableError] * 10)
    with capture_logs() as logs:
        await writes.write("note", work)
        await eventually(lambda: bool(logs))
    assert (work.tries, logs[0]["event"], logs[0]["what"]) == (4, "write.given_up", "note")


@pytest.mark.parametrize("errors", [(StoreRefusedError,), (StoreUnavailableError, StoreRefusedError)])
async def test_what_redis_will_never_take_is_not_tried_again(
    writes: DeferredWrites, errors: tuple[type[Exception], ...]
) -> None:
    work = Work(*errors)
    with capture_logs() as logs:
        await writes.write("note", work)
        await eventually(lambda: bool(logs))
    assert (work.tries, work.is_done) == (len(errors), False)


async def test_a_failure_of_another_kind_is_told_and_ends_it(writes: DeferredWrites) -> None:
    work = Work(StoreUnavailableError, RuntimeError)
    with capture_logs() as logs:
        await writes.write("note", work)
        await eventually(lambda: bool(logs))
    assert (logs[0]["event"], work.tries) == ("write.failed", 2)


async def test_no_more_than_so_many_wait(writes: DeferredWrites) -> None:
    works = [Work(StoreUnavailableError) for _ in range(3)]
    with capture_logs() as logs:
        for work in works:
            await writes.write("note", work)
    assert [line["event"] for line in logs] == ["write.given_up"]
    await eventually(lambda: [work.is_done for work in works] == [True, True, False])


async def test_the_end_of_the_service_ends_the_waiting_and_says_so(writes: DeferredWrites) -> None:
    work = Work(StoreUnavailableError)
    with capture_logs() as logs:
        await writes.write("note", work)
        await writes.close()
    assert [line["event"] for line in logs] == ["write.given_up"]
    await asyncio.sleep(5 * EVERY_S)
    assert work.tries == 1
