"""Places are few, the queue is short, and both are fair."""

import asyncio
import time
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shieldmesh import context
from shieldmesh.admission import Places
from shieldmesh.context import RequestContext
from shieldmesh.errors import DeadlineExceededError, MeshError, ResourceExhaustedError

TIMEOUT = 60.0
"""Seconds until a test gives up waiting."""


async def test_places_are_given_in_the_order_of_asking() -> None:
    """Never more than the limit run, and whoever waited longest is next."""
    places = Places("m", max_running=2, max_waiting=10)
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
    places = Places("m", max_running=1, max_waiting=1)
    async with asyncio.TaskGroup() as group, places.place():
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
    places = Places("m", max_running=1, max_waiting=2)
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
    places = Places("m", max_running=1, max_waiting=2)
    async with places.place():
        first = asyncio.create_task(hold(places))
        second = asyncio.create_task(hold(places))
        await until_waiting(places, 2)
    first.cancel()
    await second
    assert (places.running, places.waiting) == (0, 0)


async def test_two_waiters_that_leave_with_the_place_block_nobody() -> None:
    """A place given up while the next in line is being cancelled comes free."""
    places = Places("m", max_running=1, max_waiting=2)
    async with places.place():
        waiting = [asyncio.create_task(hold(places)) for _ in range(2)]
        await until_waiting(places, 2)
        for task in waiting:
            task.cancel()
    await asyncio.wait(waiting)
    assert (places.running, places.waiting) == (0, 0)


async def test_tenants_share_the_places_that_come_free() -> None:
    """Behind a flood of one tenant, the others wait for one place each, and get the places of their weights."""
    places = Places("m", max_running=1, max_waiting=100, weights={"large": 2})
    order: list[str] = []
    async with asyncio.TaskGroup() as group, places.place():
        for tenant, number in (("flood", 20), ("large", 4), ("small", 2)):
            for _ in range(number):
                group.create_task(noted(places, order, tenant))
            await until_waiting(places, places.waiting + number)
    assert order[:8] == ["flood", "large", "small", "large", "flood", "large", "small", "large"]
    assert set(order[8:]) == {"flood"}


async def test_a_newcomer_takes_room_from_the_longest_line() -> None:
    """With the whole queue in one tenant's hands, another is not refused: the flood's newest is, and may come back."""
    places = Places("m", max_running=1, max_waiting=2)
    order: list[str] = []
    async with asyncio.TaskGroup() as group, places.place():
        group.create_task(noted(places, order, "flood"))
        await until_waiting(places, 1)
        newest = asyncio.create_task(noted(places, [], "flood"))
        await until_waiting(places, 2)
        group.create_task(noted(places, order, "newcomer"))
        refused = await failure(newest)
    assert isinstance(refused, ResourceExhaustedError)
    assert (refused.reason, bool(refused.retry_after)) == ("QUEUE_FULL", True)
    assert sorted(order) == ["flood", "newcomer"]


async def test_who_could_not_wait_long_enough_is_told_at_once() -> None:
    """A deadline before the expected wait is a refusal; a later one, or none, waits."""
    places = Places("m", max_running=1, max_waiting=10)
    await places.enter()
    places.left(100.0)
    async with asyncio.TaskGroup() as group, places.place():
        refused = await failure(asyncio.create_task(hold(places, deadline=time.monotonic() + 60)))
        assert isinstance(refused, ResourceExhaustedError)
        assert (refused.reason, bool(refused.retry_after)) == ("DEADLINE_TOO_SHORT", True)
        waiting = [group.create_task(hold(places, deadline=when)) for when in (time.monotonic() + 120, None)]
        await until_waiting(places, len(waiting))
        # There are two before it now.
        refused = await failure(asyncio.create_task(hold(places, deadline=time.monotonic() + 220)))
        assert isinstance(refused, ResourceExhaustedError)
        # Its share comes before them.
        group.create_task(hold(places, "other", time.monotonic() + 220))
        await until_waiting(places, 3)
    assert (places.running, places.waiting) == (0, 0)


async def test_what_is_late_when_its_turn_comes_takes_no_place() -> None:
    """A waiter whose deadline passed is told so, and the place goes to the next."""
    places = Places("m", max_running=1, max_waiting=10)
    begun: list[str] = []
    async with places.place():
        deadline = time.monotonic() + 0.001
        late = asyncio.create_task(noted(places, begun, "late", deadline))
        in_time = asyncio.create_task(noted(places, begun, "in time"))
        await eventually(lambda: places.waiting == 2 and time.monotonic() > deadline)
    await in_time
    assert isinstance(await failure(late), DeadlineExceededError)
    assert begun == ["in time"]


async def test_those_refused_together_do_not_come_back_together() -> None:
    """The times to come back are spread by chance."""
    places = Places("m", max_running=1, max_waiting=0)
    async with places.place():
        pauses: set[float | None] = set()
        for _ in range(20):
            refused = await failure(asyncio.create_task(hold(places)))
            assert isinstance(refused, ResourceExhaustedError)
            pauses.add(refused.retry_after)
    assert len(pauses) == 20


@given(st.integers(1, 3), st.integers(0, 4), st.lists(st.tuples(st.integers(0, 9), st.sampled_from("ecls"))))
def test_places_are_never_lost_or_doubled(most: int, room: int, story: Sequence[tuple[int, str]]) -> None:
    """Whoever enters, leaves, is cancelled or is displaced, at any moment: all places are there in the end."""

    async def tell() -> None:
        places = Places("m", max_running=most, max_waiting=room)
        tasks: dict[int, asyncio.Task[None]] = {}
        over: dict[int, asyncio.Event] = {}
        for number, step in story:
            if step == "e" and (number not in tasks or tasks[number].done()):
                over[number] = asyncio.Event()
                tasks[number] = asyncio.create_task(stay(places, str(number % 3), over[number]))
            elif step == "c" and number in tasks:
                tasks[number].cancel()
            elif step == "l" and number in over:
                over[number].set()
            else:
                await asyncio.sleep(0)
            assert places.running <= most
            assert places.waiting <= room
        for event in over.values():
            event.set()
        async with asyncio.timeout(TIMEOUT):
            await asyncio.gather(*tasks.values(), return_exceptions=True)
        assert (places.running, places.waiting) == (0, 0)

    asyncio.run(tell())


async def stay(places: Places, tenant: str, over: asyncio.Event) -> None:
    with context.use(RequestContext(tenant_id=tenant)):
        async with places.place():
            await over.wait()


async def noted(places: Places, order: list[str], tenant: str, deadline: float | None = None) -> None:
    with context.use(RequestContext(tenant_id=tenant.replace(" ", "-"), deadline=deadline)):
        async with places.place():
            order.append(tenant)


async def hold(places: Places, tenant: str = "", deadline: float | None = None) -> None:
    await noted(places, [], tenant, deadline)


async def failure(task: "asyncio.Task[None]") -> MeshError:
    """How a task failed."""
    with pytest.raises(MeshError) as caught:
        await asyncio.wait_for(task, TIMEOUT)
    return caught.value


async def until_waiting(places: Places, number: int) -> None:
    await eventually(lambda: places.waiting == number)


async def eventually(condition: Callable[[], bool]) -> None:
    """Returns when the condition holds; fails after the time limit."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            if condition():
                return
            await asyncio.sleep(0.001)
