"""The turn log of one machine: an SQLite file with write-ahead log, which outlives the process.

```text
append ──▶ batch ──▶ the clerk's thread: one transaction for all that gathered ──▶ those who follow are woken
             every 25 ms, or at once for turns that somebody follows
```

No reader polls, and no turn waits for the file. What a process is killed with is at most what was written in the last
moments before: see docs/turns.md.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from shieldmesh import context
from shieldmesh.errors import MeshError
from shieldmesh.metrics import instruments
from shieldmesh.telemetry import Name

from .backlog import Backlog
from .clerk import Clerk
from .file import Batch, LogFile
from .followers import Followers
from .turn_log import CLAIM_WINDOW, Claim, Owner, Record, from_bytes, lost, to_bytes

GATHER_SECONDS: Final = 0.025
"""How long what is written may wait for more of it."""

_log = structlog.stdlib.get_logger("shieldmesh.turn_log")


@asynccontextmanager
async def open_sqlite(
    path: Path | None, *, retention: float, backlog: int, claim_window: float = CLAIM_WINDOW
) -> AsyncGenerator["SqliteLog"]:
    """A turn log in a file; at the end of the block all is written.

    Args:
        path: The file, which is made if there is none; None: a temporary one that goes with the process.
        retention: Seconds that a turn is kept after its end.
        backlog: Bytes of events that may wait for the file before turns wait, too.
        claim_window: Seconds that a key stands for its turn.

    Raises:
        LogFileError: the file cannot be used.
    """
    log = SqliteLog(backlog)
    await log.open(path, retention, claim_window)
    try:
        yield log
    finally:
        await log.close()


class SqliteLog:
    """See `TurnLog` and `open_sqlite`. It belongs to the event loop that opened it."""

    def __init__(self, backlog: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._backlog = Backlog(backlog)
        self._clerk = Clerk(self._written)
        self._batch = Batch()
        self._flushing: asyncio.Handle | None = None
        self._at_once = False
        # What is written is of many turns: it must not be done in the context of one.
        self._nobodys = context.detached()
        self._followers = Followers()
        self._stop: Callable[[str], object] = _nobody

    async def open(self, path: Path | None, retention: float, claim_window: float) -> None:
        """Opens the file.

        Raises:
            LogFileError: it cannot be used.
        """
        await self._clerk.start(path, retention, claim_window)

    async def close(self) -> None:
        """Returns when all is written and the file is closed."""
        self._flush()
        await self._clerk.leave()

    def begin(self, turn: str, owner: Owner) -> None:
        """See `TurnLog`."""
        self._batch.begun.append((turn, owner))
        self._soon(turn)

    def append(self, turn: str, sequence: int, event: bytes) -> None:
        """See `TurnLog`."""
        self._batch.events.append((turn, sequence, event))
        self._batch.size += len(event)
        self._backlog.add(len(event))
        self._soon(turn)

    def seal(self, turn: str, error: MeshError | None = None) -> None:
        """See `TurnLog`."""
        self._batch.sealed.append((turn, to_bytes(error)))
        self._soon(turn)

    async def room(self) -> None:
        """See `TurnLog`."""
        await self._backlog.room()

    async def find(self, turn: str) -> Record | None:
        """See `TurnLog`."""
        self._flush()
        return await self._clerk.ask(partial(LogFile.find, turn=turn))

    async def follow(self, turn: str, after: int, *, live: bool = True) -> AsyncGenerator[bytes]:
        """See `TurnLog`."""
        with self._followers.following(turn) as news:
            ending: bytes | None = None
            while ending is None:
                news.clear()
                self._flush()
                page = await self._clerk.ask(partial(LogFile.page, turn=turn, after=after))
                for sequence, event in page.events:
                    if sequence != after + 1:
                        raise lost()
                    after = sequence
                    yield event
                ending = page.ending
                if ending is None and not page.events:
                    if not live:
                        return
                    await news.wait()
        error = from_bytes(ending)
        if error is not None:
            raise error

    async def followed(self, turn: str) -> bool:
        """See `TurnLog`."""
        del turn
        return False  # the file belongs to this process

    async def expire(self) -> int:
        """See `TurnLog`."""
        return await self._clerk.ask(LogFile.expire)

    async def forget(self, turn: str) -> None:
        """See `TurnLog`."""
        self._flush()
        await self._clerk.ask(partial(LogFile.forget, turn=turn))

    async def claim(self, key: str, turn: str, digest: bytes) -> Claim:
        """See `TurnLog`."""
        return await self._clerk.ask(partial(LogFile.claim, key=key, turn=turn, digest=digest))

    def listen(self, stop: Callable[[str], object]) -> None:
        """See `TurnLog`."""
        self._stop = stop

    async def ask_to_stop(self, turn: str) -> None:
        """See `TurnLog`."""
        self._stop(turn)  # all that run have their writer in this process

    def _soon(self, turn: str) -> None:
        """Has the batch written, at once when somebody follows the turn or writers wait for room."""
        if (turn in self._followers or self._backlog.full) and not self._at_once:
            self._forget_flushing()
            self._at_once = True
            self._flushing = self._loop.call_soon(self._flush, context=self._nobodys)
        elif self._flushing is None:
            self._flushing = self._loop.call_later(GATHER_SECONDS, self._flush, context=self._nobodys)

    def _flush(self) -> None:
        self._forget_flushing()
        if self._batch:
            self._clerk.write(self._batch)
            self._batch = Batch()

    def _forget_flushing(self) -> None:
        self._at_once = False
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None

    def _written(self, batch: Batch, error: str) -> None:
        """The clerk is done with a batch."""
        self._backlog.done(batch.size)
        turns = batch.turns()
        instruments().log_waiting.set(self._backlog.size)
        if error:
            instruments().log_failures.add(1, {Name.ERROR_TYPE: error})
            instruments().log_lost.add(len(turns))
            _log.error("turns are not kept any more: the turn log cannot be written", error=error, turns=len(turns))
        else:
            instruments().log_events.add(len(batch.events))
        self._followers.tell(turns)


def _nobody(turn: str) -> None:
    """Listens until somebody does."""
    del turn
