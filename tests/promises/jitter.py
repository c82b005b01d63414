"""A scheduler that interleaves tasks at random: every step of every task waits a random number of rounds first.

The same seed gives the same waits. Each order that this produces is one that asyncio may produce, too.
"""

import asyncio
import random
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")
LONGEST = 3
"""Rounds of the loop that a step waits at most."""


def shake(loop: asyncio.AbstractEventLoop, seed: int) -> None:
    """Has the loop run all tasks that are made from now on this way, those of libraries too."""
    chance = random.Random(seed)

    def make(its_loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> "asyncio.Task[Any]":
        return asyncio.Task(_Jittered(work, chance), loop=its_loop, **options)

    loop.set_task_factory(make)


class _Jittered(Coroutine[Any, Any, T]):
    """A coroutine that yields a few times before each of its steps."""

    def __init__(self, work: Coroutine[Any, Any, T], chance: random.Random) -> None:
        self.__qualname__ = getattr(work, "__qualname__", "")
        self._work = work
        self._chance = chance
        self._rounds = chance.randint(0, LONGEST)

    def send(self, value: Any) -> Any:
        if self._rounds:
            self._rounds -= 1
            return None  # as `sleep(0)` does: the task goes to the end of the queue
        self._rounds = self._chance.randint(0, LONGEST)
        return self._work.send(value)

    def throw(self, *error: Any) -> Any:
        return self._work.throw(*error)

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Generator[Any, Any, T]:
        return self._work.__await__()
