"""What waits between two tasks of a turn: in order, merged while the reader is busy, and bounded."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """A queue with one reader, in which items that wait become one where they can.

    The reader is woken once for whatever has gathered, so a busy moment costs fewer messages and a slow reader less
    memory, and an idle one waits for nothing.
    """

    def __init__(self, merge: Callable[[T, T], bool], weigh: Callable[[T], int], limit: int) -> None:
        """Makes an empty mailbox.

        Args:
            merge: Appends its second argument to the first and says True, or says False where they stay apart.
            weigh: The weight of an item; of a merged one, the sum.
            limit: The weight that may wait before `room` makes the writer wait.
        """
        self._merge = merge
        self._weigh = weigh
        self._limit = limit
        self._weight = 0
        self._items: deque[T] = deque()
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._free = False
        self._closed = False

    @property
    def full(self) -> bool:
        """Whether more waits than the limit."""
        return self._weight > self._limit

    def put(self, item: T) -> None:
        """Adds an item; never waits."""
        self._weight += self._weigh(item)
        if self._weight > self._limit and not self._free:
            self._room.clear()
        if not (self._items and self._merge(self._items[-1], item)):
            self._items.append(item)
        self._filled.set()

    async def room(self) -> None:
        """Returns when no more than the limit waits."""
        await self._room.wait()

    def free(self) -> None:
        """Lifts the limit: a writer that is about to end must not wait for a reader that may be gone."""
        self._free = True
        self._room.set()

    def close(self) -> None:
        """Ends the reader's loop after what waits."""
        self._closed = True
        self._filled.set()

    async def take(self) -> T | None:
        """The next item; None when it is closed and nothing waits. A cancelled wait loses nothing."""
        while not self._items:
            if self._closed:
                return None
            self._filled.clear()
            await self._filled.wait()
        item = self._items.popleft()
        self._weight -= self._weigh(item)
        if self._weight <= self._limit:
            self._room.set()
        return item

    async def __aiter__(self) -> AsyncGenerator[T]:
        while (item := await self.take()) is not None:
            yield item
