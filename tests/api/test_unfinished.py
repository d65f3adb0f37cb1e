"""Who gives way when unfinished bodies fill their budget."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest

from service.api.unfinished import MAX_COMPARED, BodyGivenUpError, UnfinishedBodies, UnfinishedBody

AGED_S = 5.0
"""How much older a body is made that is to look slow."""


class Sender:
    """Bodies in one budget; the older ones are slower."""

    def __init__(self, bodies: UnfinishedBodies, stack: ExitStack) -> None:
        self._bodies = bodies
        self._stack = stack

    def begin(self, address: str, size: int, *, age_s: float = 0.0) -> UnfinishedBody:
        body = self._stack.enter_context(self._bodies.admit(address))
        body.began_at -= age_s
        self._bodies.hold(body, size)
        return body


@pytest.fixture
def stack() -> ExitStack:
    return ExitStack()


async def given_up_in(body: UnfinishedBody, begun: asyncio.Event) -> bool:
    """Wait inside the body's block, as a reader does, until others interrupt it."""
    try:
        async with body.interruption:
            begun.set()
            await asyncio.sleep(60)
    except TimeoutError:
        return True
    return False


async def entered(*bodies: UnfinishedBody) -> list[asyncio.Task[bool]]:
    tasks = []
    for body in bodies:
        begun = asyncio.Event()
        tasks.append(asyncio.create_task(given_up_in(body, begun)))
        await begun.wait()
    return tasks


async def losers(tasks: list[asyncio.Task[bool]]) -> list[int]:
    """The positions of those that were interrupted."""
    await asyncio.sleep(0.01)
    lost = [position for position, task in enumerate(tasks) if task.done() and task.result()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return lost


async def test_one_address_may_use_all_that_is_free(stack: ExitStack) -> None:
    with stack:
        Sender(UnfinishedBodies(100), stack).begin("a", 100)


async def test_the_address_that_holds_most_loses_its_slowest_body(stack: ExitStack) -> None:
    with stack:
        sender = Sender(UnfinishedBodies(100), stack)
        others = sender.begin("b", 40, age_s=100 * AGED_S)
        quick, slow = sender.begin("a", 30), sender.begin("a", 30, age_s=AGED_S)
        tasks = await entered(others, quick, slow)
        sender.begin("c", 10)
        assert await losers(tasks) == [2]


async def test_of_bodies_as_slow_the_older_gives_way(stack: ExitStack) -> None:
    with stack:
        sender = Sender(UnfinishedBodies(100), stack)
        bodies = [sender.begin("a", 50, age_s=AGED_S), sender.begin("a", 50, age_s=AGED_S)]
        bodies[1].began_at = bodies[0].began_at
        tasks = await entered(*bodies)
        sender.begin("b", 1)
        assert await losers(tasks) == [0]


async def test_at_one_address_the_quick_body_keeps_its_place_among_slow_ones(stack: ExitStack) -> None:
    with stack:
        sender = Sender(UnfinishedBodies(100), stack)
        tasks = await entered(*(sender.begin("a", 10, age_s=AGED_S) for _ in range(10)))
        quick = sender.begin("a", 30)
        assert (await losers(tasks), quick.is_given_up) == ([0, 1, 2], False)


async def test_many_addresses_with_a_little_each_do_not_keep_out_a_larger_quick_body(stack: ExitStack) -> None:
    with stack:
        sender = Sender(UnfinishedBodies(1000), stack)
        tasks = await entered(*(sender.begin(f"stranger-{i}", 10, age_s=AGED_S) for i in range(100)))
        quick = sender.begin("quick", 55)
        assert (await losers(tasks), quick.is_given_up) == ([0, 1, 2, 3, 4, 5], False)


async def test_a_body_slower_than_all_others_is_refused_its_own_next_piece(stack: ExitStack) -> None:
    with stack:
        bodies = UnfinishedBodies(100)
        sender = Sender(bodies, stack)
        sender.begin("a", 30)
        slow = sender.begin("b", 60, age_s=AGED_S)
        for _ in range(2):
            with pytest.raises(BodyGivenUpError):
                bodies.hold(slow, 20)
        sender.begin("c", 70)


async def test_an_address_that_holds_most_never_takes_the_place_of_another_with_its_slowest_body(
    stack: ExitStack,
) -> None:
    with stack:
        bodies = UnfinishedBodies(1000)
        sender = Sender(bodies, stack)
        honest = sender.begin("honest", 5, age_s=100 * AGED_S)
        slow = sender.begin("stranger", 100, age_s=AGED_S)
        sender.begin("stranger", 800)
        with pytest.raises(BodyGivenUpError):
            bodies.hold(slow, 100)
        assert not honest.is_given_up


async def test_what_is_released_or_given_up_is_free_again(stack: ExitStack) -> None:
    bodies = UnfinishedBodies(100)
    for _ in range(3):
        with stack.pop_all() as once:
            sender = Sender(bodies, once)
            sender.begin("a", 60)
            sender.begin("b", 40)
    assert (bodies._held_bytes, bodies._bodies, bodies._shares) == (0, {}, {})


async def test_a_flood_of_tiny_bodies_is_compared_in_part(stack: ExitStack) -> None:
    with stack:
        count = 4 * MAX_COMPARED
        sender = Sender(UnfinishedBodies(count), stack)
        tiny = [sender.begin("a", 1, age_s=AGED_S) for _ in range(count)]
        tasks = await entered(*tiny)
        sender.begin("b", 5)
        lost = await losers(tasks)
        assert len(lost) == 5
        assert max(lost) < MAX_COMPARED + 5
