"""Waiting for something to become true: like `asyncio.Event`, in a tenth of its memory."""

import asyncio


class Flag:
    """Set or not, for the tasks of one event loop. Streams have several that hardly anybody ever waits for.

    Attributes:
        is_set: Whether it is; look before you wait where it mostly is.
    """

    __slots__ = ("_waiting", "is_set")

    def __init__(self, *, is_set: bool = False) -> None:
        self.is_set = is_set
        self._waiting: list[asyncio.Future[None]] | None = None

    def set(self) -> None:
        """Sets it and wakes all who wait."""
        self.is_set = True
        if self._waiting:
            for waiter in self._waiting:
                if not waiter.done():
                    waiter.set_result(None)
            self._waiting = None

    def clear(self) -> None:
        """Has those wait who come from now on."""
        self.is_set = False

    def wait(self) -> "asyncio.Future[None]":
        """Done when it is set, or was since this call. It is the caller's own, who may cancel it."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.is_set:
            waiter.set_result(None)
        elif self._waiting is None:
            self._waiting = [waiter]
        else:
            count = len(self._waiting)
            if count & (count - 1) == 0:  # at 1, 2, 4, 8 … those who gave up are forgotten
                self._waiting = [other for other in self._waiting if not other.done()]
            self._waiting.append(waiter)
        return waiter
