"""What waits between two tasks of a turn: in order, joined while the reader is busy, and bounded."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

T = TypeVar("T")

Measure: TypeAlias = tuple[int, int]
"""Bytes of text, and tokens."""

OVERHEAD: Final = 64
"""Bytes that an item weighs beside its text: one without a text must not wait for nothing, a million of them."""


class Joining(Protocol[T]):
    """How items that wait for the same reader become one. Pure."""

    def alike(self, first: T, second: T) -> bool:
        """Whether the second continues the first."""
        ...

    def join(self, items: Sequence[T]) -> T:
        """One item that says what these say, two or more of which each continues the one before."""
        ...

    def measure(self, item: T) -> Measure:
        """How much it is; of a joined one, the sum."""
        ...


class Mailbox(Generic[T]):
    """A queue with one reader, in which items that wait become one where they can.

    The reader is woken once for whatever has gathered, so a busy moment costs fewer messages and a slow reader less
    memory, and an idle one waits for nothing.
    """

    def __init__(self, joining: Joining[T], limit: int, tokens: int | None = None) -> None:
        """Makes an empty mailbox.

        Args:
            joining: What is known of the items.
            limit: The bytes that may wait before `room` makes the writer wait.
            tokens: The tokens that may; None: any number.
        """
        self._joining = joining
        self._limit = limit
        self._most_tokens = tokens
        self._size = 0
        self._tokens = 0
        self._items: deque[tuple[T, int, int]] = deque()
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._free = False
        self._closed = False

    @property
    def full(self) -> bool:
        """Whether more waits than the limit."""
        if self._most_tokens is not None and self._tokens > self._most_tokens:
            return True
        # What waits alone is as small as it can be.
        return self._size + OVERHEAD * (len(self._items) - 1) > self._limit

    def put(self, item: T) -> None:
        """Adds an item; never waits."""
        size, tokens = self._joining.measure(item)
        self._size += size
        self._tokens += tokens
        self._items.append((item, size, tokens))
        if len(self._items) > 1:
            self._compact()
        if not self._free and self.full:
            self._room.clear()
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
        item, size, tokens = self._items.popleft()
        if self._items:
            item, size, tokens = self._joined(item, size, tokens)
        self._size -= size
        self._tokens -= tokens
        if not self._room.is_set() and not self.full:
            self._room.set()
        return item

    async def __aiter__(self) -> AsyncGenerator[T]:
        while (item := await self.take()) is not None:
            yield item

    def _compact(self) -> None:
        """Joins from the end, unless that would copy far more than what is new.

        A message keeps all that its text ever was until it is gone: with each piece appended to one text, 16 KiB in
        pieces of 5 bytes would take 29 MiB. So pieces are joined as the digits of a counter carry: those that are left
        are each more than twice as long as the next, so there are few of them, and each was copied few times.
        """
        items, joining = self._items, self._joining
        while len(items) > 1:
            (before, size, tokens), (last, more, more_tokens) = items[-2], items[-1]
            if size > 2 * more or not joining.alike(before, last):
                return
            del items[-1]
            items[-1] = (joining.join((before, last)), size + more, tokens + more_tokens)

    def _joined(self, first: T, size: int, tokens: int) -> tuple[T, int, int]:
        """The first that waited, with all that waits and belongs to it."""
        items, joining = self._items, self._joining
        gathered = [first]
        while items and joining.alike(gathered[-1], items[0][0]):
            item, more, more_tokens = items.popleft()
            gathered.append(item)
            size, tokens = size + more, tokens + more_tokens
        return joining.join(gathered) if len(gathered) > 1 else first, size, tokens
