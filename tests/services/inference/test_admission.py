"""Places are few, the queue is short, and both are fair."""

import asyncio

import pytest

from services.inference.admission import Admission
from shieldmesh.errors import ResourceExhaustedError

from .serving import eventually


async def test_places_are_given_in_the_order_of_asking() -> None:
    """Never more than the limit run, and whoever waited longest is next."""
    places = Admission("m", max_running=2, max_waiting=10)
    order: list[int] = []
    most = 0

    async def use(number: int) -> None:
        nonlocal most
        async with places.place():
            order.append(number)
            most = max(most, places.running)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(use(number))
    assert order == list(range(8))
    assert (most, places.running, places.waiting) == (2, 0, 0)


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    """One runs, one waits, the third is refused with RetryInfo."""
    places = Admission("m", max_running=1, max_waiting=1)
    async with places.place(), asyncio.TaskGroup() as group:
        waiting = group.create_task(hold(places))
        await until_waiting(places, 1)
        with pytest.raises(ResourceExhaustedError) as caught:
            async with places.place():
                pytest.fail("there was no place")
        assert caught.value.reason == "QUEUE_FULL"
        assert caught.value.retry_after is not None
        assert caught.value.retry_after > 0
        waiting.cancel()
    assert (places.running, places.waiting) == (0, 0)


async def test_whoever_gives_up_waiting_leaves_no_gap() -> None:
    """A cancelled waiter is gone from the queue, and the one behind it gets the place."""
    places = Admission("m", max_running=1, max_waiting=2)
    async with places.place():
        first = asyncio.create_task(hold(places))
        second = asyncio.create_task(hold(places))
        await until_waiting(places, 2)
        first.cancel()
        await until_waiting(places, 1)
    await second
    assert first.cancelled()
    assert (places.running, places.waiting) == (0, 0)


async def test_a_place_that_comes_together_with_the_cancellation_goes_on() -> None:
    """Cancelled after the place was given and before it was taken up, a waiter hands it to the next."""
    places = Admission("m", max_running=1, max_waiting=2)
    async with places.place():
        first = asyncio.create_task(hold(places))
        second = asyncio.create_task(hold(places))
        await until_waiting(places, 2)
    first.cancel()
    await second
    assert (places.running, places.waiting) == (0, 0)


async def test_two_waiters_that_leave_with_the_place_block_nobody() -> None:
    """A place given up while the next in line is being cancelled comes free."""
    places = Admission("m", max_running=1, max_waiting=2)
    async with places.place():
        waiting = [asyncio.create_task(hold(places)) for _ in range(2)]
        await until_waiting(places, 2)
        for task in waiting:
            task.cancel()
    await asyncio.wait(waiting)
    assert (places.running, places.waiting) == (0, 0)


async def hold(places: Admission) -> None:
    async with places.place():
        pass


async def until_waiting(places: Admission, number: int) -> None:
    await eventually(lambda: places.waiting == number)
