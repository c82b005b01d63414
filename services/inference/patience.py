"""How long a reader waits: until a limit, or until it is told to stop."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")


class StoppedError(Exception):
    """Nobody wants the rest."""


class Patience:
    """Waits for one thing after the other, always within a limit.

    The limit is around each wait and never around a `yield`: there it could cancel the reader's reader.
    """

    def __init__(self) -> None:
        self._limit: asyncio.Timeout | None = None
        self._stopped = False

    async def wait(self, work: Coroutine[object, object, T], until: float | None) -> T:
        """What `work` gives. It is cancelled at `until`, on the loop's clock (None: never), or on `stop`.

        Raises:
            TimeoutError: it took too long.
            StoppedError: it was told to stop.
        """
        try:
            self.check()
        except StoppedError:
            work.close()
            raise
        limit = asyncio.timeout_at(until)
        try:
            async with limit:
                self._limit = limit
                return await work
        except TimeoutError:
            if self._stopped and limit.expired():
                raise StoppedError from None
            raise
        finally:
            self._limit = None

    def check(self) -> None:
        """Raises a StoppedError if it was told to stop."""
        if self._stopped:
            raise StoppedError

    def stop(self) -> None:
        """Ends the waiting, now and for ever."""
        self._stopped = True
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(0)
