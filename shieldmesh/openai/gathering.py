"""What an HTTP answer brings, gathered while nobody looks.

httpx gives the chunks of an answer one by one, as the server cut them, which is one for each token. Whoever is late
would take them one by one, too, and be later still. Taken together, many cost hardly more than one of them.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from shieldmesh.flag import Flag

AHEAD: Final = 16 * 1024
"""Bytes after which no more are read before these are taken. One piece more fits, whatever its size."""


class Gathering:
    """Reads pieces in a task of its own, at most AHEAD bytes before its reader. It must be closed."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._gathered = bytearray()
        self._over = False
        self._changed = Flag()
        self._room = Flag()
        self._task = asyncio.create_task(self._gather())

    async def take(self) -> bytes:
        """All that has come since the last time, waiting for something; nothing at the end.

        Raises:
            Exception: what ended the pieces, after all that came before it was taken.
        """
        while not self._gathered and not self._over:
            self._changed.clear()
            try:
                await self._changed.wait()
            except asyncio.CancelledError:
                # Who gave up once is not to wait for the end later.
                self._task.cancel()
                raise
        if not self._gathered:
            await asyncio.wait([self._task])
            if not self._task.cancelled():
                self._task.result()
        taken = bytes(self._gathered)
        self._gathered.clear()
        self._room.set()
        return taken

    async def close(self) -> None:
        """Reads no more."""
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.exception()  # seen, or of no interest any more

    async def _gather(self) -> None:
        try:
            async for piece in self._pieces:
                self._gathered += piece
                self._changed.set()
                if len(self._gathered) >= AHEAD:
                    self._room.clear()
                    await self._room.wait()
        finally:
            self._over = True
            self._changed.set()
