"""Messages in one direction, of which one may wait."""

import asyncio
from collections import deque


class ClosedPipeError(Exception):
    """Nobody will read what is written."""


class Pipe:
    """Serialized messages from one writer to one reader, who are in step but for one message."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self._closed = False

    async def put(self, message: bytes) -> None:
        """Writes when there is room.

        Raises:
            ClosedPipeError: it is closed.
        """
        while self._waiting and not self._closed:
            await self._wait()
        if self._closed:
            raise ClosedPipeError
        self._waiting.append(message)
        self._changed.set()

    def fill(self, message: bytes) -> None:
        """Writes the only message, into a pipe that is empty."""
        self._waiting.append(message)
        self.close()

    async def get(self) -> bytes | None:
        """The next message; None when it is closed and nothing waits."""
        while not self._waiting:
            if self._closed:
                return None
            await self._wait()
        message = self._waiting.popleft()
        self._changed.set()
        return message

    def close(self, *, drop: bool = False) -> None:
        """Ends it: what waits is still read, unless it is to be dropped."""
        self._closed = True
        if drop:
            self._waiting.clear()
        self._changed.set()

    async def _wait(self) -> None:
        # At most one waits: the writer for room, or the reader for a message.
        self._changed.clear()
        await self._changed.wait()
