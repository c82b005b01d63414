"""What waits between two tasks of a turn: in order, joined while the reader is busy, and bounded."""

from collections.abc import AsyncGenerator, Sequence
from itertools import islice
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

from shieldmesh.flag import Flag

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

    Attributes:
        corked: Whether it gives nothing yet.
    """

    def __init__(self, joining: Joining[T], limit: int, tokens: int | None = None, *, corked: bool = False) -> None:
        """Makes an empty mailbox.

        Args:
            joining: What is known of the items.
            limit: The bytes that may wait before `room` makes the writer wait.
            tokens: The tokens that may; None: any number.
            corked: Give nothing before `uncork`.
        """
        self.corked = corked
        self._joining = joining
        self._limit = limit
        self._most_tokens = tokens
        self._size = 0
        self._tokens = 0
        self._items: list[tuple[T, int, int]] = []
        self._filled = Flag()
        self._roomy = Flag(is_set=True)
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
        items = self._items
        items.append((item, size, tokens))
        if len(items) > 1:
            self._compact()
        self._filled.set()

    async def room(self) -> None:
        """Returns when no more than the limit waits."""
        while self.full and not self._free:
            self._roomy.clear()
            await self._roomy.wait()

    def free(self) -> None:
        """Lifts the limit: a writer that is about to end must not wait for a reader that may be gone."""
        self._free = True
        self._roomy.set()

    def uncork(self) -> None:
        """Lets the reader have what waits and what comes."""
        self.corked = False
        self._filled.set()

    def close(self) -> None:
        """Ends the reader's loop after what waits."""
        self._closed = True
        self.uncork()

    async def take(self) -> T | None:
        """The next item; None when it is closed and nothing waits. A cancelled wait loses nothing."""
        items = self._items
        while self.corked or not items:
            if self._closed:
                return None
            self._filled.clear()
            await self._filled.wait()
        item, size, tokens = items.pop() if len(items) == 1 else self._joined()
        self._size -= size
        self._tokens -= tokens
        if not self._roomy.is_set and not self.full:
            self._roomy.set()
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

    def _joined(self) -> tuple[T, int, int]:
        """The first that waited, with all that waits and belongs to it."""
        items, joining = self._items, self._joining
        first, size, tokens = items[0]
        gathered = [first]
        for item, more, more_tokens in islice(items, 1, None):
            if not joining.alike(gathered[-1], item):
                break
            gathered.append(item)
            size, tokens = size + more, tokens + more_tokens
        del items[: len(gathered)]
        return joining.join(gathered) if len(gathered) > 1 else first, size, tokens
