"""Waiting for something to become true: like `asyncio.Event`, in a tenth of its memory."""

import asyncio
from collections.abc import Sequence


class Flag:
    """Set or not, for the tasks of one event loop. Streams have several that hardly anybody ever waits for.

    Attributes:
        is_set: Whether it is; look before you wait where it mostly is.
    """

    __slots__ = ("_waiting", "is_set")

    def __init__(self, *, is_set: bool = False) -> None:
        self.is_set = is_set
        self._waiting: Sequence[asyncio.Future[None]] = ()

    def set(self) -> None:
        """Sets it and wakes all who wait."""
        self.is_set = True
        if self._waiting:
            for waiter in self._waiting:
                if not waiter.done():
                    waiter.set_result(None)
            self._waiting = ()

    def clear(self) -> None:
        """Has those wait who come from now on."""
        self.is_set = False

    def wait(self) -> "asyncio.Future[None]":
        """Done when it is set, or was since this call. It is the caller's own, who may cancel it."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.is_set:
            waiter.set_result(None)
        elif self._waiting:
            self._waiting = [*(other for other in self._waiting if not other.done()), waiter]
        else:
            self._waiting = (waiter,)
        return waiter
