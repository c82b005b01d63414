"""A server that fails again and again is left alone for a while."""

import asyncio

import pytest

from shieldmesh.breakers import Breaker
from shieldmesh.errors import UnavailableError


class Clock:
    """The breaker's time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("circuitbreaker.monotonic", lambda: self.now)


def test_it_opens_after_failures_in_a_row_and_closes_after_one_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A success in between starts the count anew; each change is told once."""
    clock, told = Clock(monkeypatch), list[bool]()
    breaker = Breaker(failures=2, pause=10, tell=told.append)
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    assert told == []
    breaker.failed()
    breaker.failed()
    with pytest.raises(UnavailableError) as caught:
        attempt(breaker)
    assert (caught.value.reason, caught.value.retry_after) == ("CIRCUIT_OPEN", 10)
    clock.now += 11
    attempt(breaker)
    breaker.answered()
    assert told == [True, False]
    attempt(breaker)


def test_an_answer_that_is_not_whole_yet_does_not_start_the_count_anew() -> None:
    """A server that always breaks off in the middle is one that fails."""
    told: list[bool] = []
    breaker = Breaker(failures=2, pause=10, tell=told.append)
    for _ in range(2):
        attempt(breaker)
        breaker.answered()
        breaker.failed()
    assert told == [True]


async def test_after_the_pause_one_at_a_time_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one tries, others are refused; one that is cancelled makes room for the next."""
    clock = Clock(monkeypatch)
    breaker = Breaker(failures=1, pause=10, tell=lambda _: None)
    breaker.failed()
    clock.now += 11
    begun = asyncio.Event()

    async def try_it() -> None:
        with breaker.attempt():
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(try_it())
    await begun.wait()
    with pytest.raises(UnavailableError):
        attempt(breaker)
    task.cancel()
    await asyncio.wait([task])
    attempt(breaker)
    breaker.failed()
    with pytest.raises(UnavailableError):
        attempt(breaker)


def attempt(breaker: Breaker) -> None:
    with breaker.attempt():
        pass
