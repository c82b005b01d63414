"""Something that tasks wait for until it is true."""

import asyncio
import weakref

from shieldmesh.flag import Flag

TIMEOUT = 10.0


async def test_all_who_wait_go_on_when_it_is_set() -> None:
    """Several wait for one flag, each is woken once, and who comes later does not wait."""
    flag, woken = Flag(), list[int]()

    async def wait(number: int) -> None:
        await flag.wait()
        woken.append(number)

    waiting = [asyncio.create_task(wait(number)) for number in range(3)]
    await asyncio.sleep(0)
    assert not flag.is_set
    assert not woken
    flag.set()
    async with asyncio.timeout(TIMEOUT):
        await asyncio.gather(*waiting)
        await flag.wait()
    assert woken == [0, 1, 2]


async def test_who_waited_goes_on_though_it_is_cleared_meanwhile() -> None:
    """It was set: that it is not any more holds for those who come from now on."""
    flag = Flag()
    before = asyncio.ensure_future(flag.wait())
    await asyncio.sleep(0)
    flag.set()
    flag.clear()
    after = asyncio.ensure_future(flag.wait())
    await asyncio.wait_for(before, TIMEOUT)
    assert not after.done()
    flag.set()
    await asyncio.wait_for(after, TIMEOUT)


async def test_a_cancelled_wait_is_forgotten_and_the_others_go_on() -> None:
    """Also when it is cancelled in the moment in which the flag is set."""
    flag = Flag()
    gone, late, here = (asyncio.ensure_future(flag.wait()) for _ in range(3))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    late.cancel()
    flag.set()
    await asyncio.wait_for(here, TIMEOUT)
    await asyncio.wait([late])
    assert gone.cancelled()
    assert late.cancelled()


async def test_who_gives_up_is_forgotten() -> None:
    """Also while somebody else goes on waiting: what is kept is bounded by those who wait."""
    flag = Flag()
    patient = flag.wait()

    def give_up() -> weakref.ref[object]:
        waiter = flag.wait()
        waiter.cancel()
        return weakref.ref(waiter)

    gone = [give_up() for _ in range(100)]
    assert sum(waiter() is not None for waiter in gone) <= 2
    flag.set()
    await asyncio.wait_for(patient, TIMEOUT)


async def test_it_is_set_from_the_start_where_somebody_says_so() -> None:
    """Such a flag is waited for only after it was cleared."""
    flag = Flag(is_set=True)
    await asyncio.wait_for(flag.wait(), TIMEOUT)
    flag.clear()
    waiting = asyncio.ensure_future(flag.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    flag.set()
    await asyncio.wait_for(waiting, TIMEOUT)
