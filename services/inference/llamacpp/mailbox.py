"""From one thread to one loop, with one wake-up for all that has gathered."""

import asyncio
import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """What a thread puts in, the loop takes out, in order.

    It never makes the thread wait: llama.cpp cannot be paused, it would go on and pile up its output, uncounted, on its
    own side. What gathers here is bounded by the tokens of one generation, so by the context window.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._items: list[T] = []
        self._filled = asyncio.Event()
        self._woken = False
        self._ended = False
        self.closed = False
        """Whether the reader has gone: what is put in now is dropped."""

    def put(self, item: T) -> None:
        """Called in the thread: hands over one item."""
        with self._lock:
            if not self.closed:
                self._items.append(item)
                self._wake()

    def end(self) -> None:
        """Called in the thread, as its last act here: nothing more will come."""
        with self._lock:
            self._ended = True
            self._wake()

    async def take(self) -> list[T]:
        """Everything that has gathered, waiting for the first item; nothing when no more will come."""
        await self._filled.wait()
        with self._lock:
            items, self._items = self._items, []
            if not self._ended:
                self._woken = False
                self._filled.clear()
            return items

    def close(self) -> None:
        """Called on the loop: the reader has gone."""
        with self._lock:
            self.closed = True
            self._items.clear()

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._filled.set)
