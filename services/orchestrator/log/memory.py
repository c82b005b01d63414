"""The turn log of one process, in its memory: nothing of it is on any disk, and nothing outlives the process.

What is written is kept at once: nothing waits, and no turn waits for the log. Its memory is bounded. When it is full,
turns that have ended are forgotten before their time, the oldest first; where only running ones are left, the largest
loses its log and goes on for its own caller. Waiting would help nobody: turns that run give no memory back.
"""

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

import structlog

from shieldmesh import context
from shieldmesh.errors import MeshError
from shieldmesh.metrics import instruments

from .followers import Followers
from .memory_claims import Claims
from .turn_log import CLAIM_WINDOW, Claim, Owner, Record, from_bytes, lost, to_bytes

MEMORY: Final = 134_217_728
"""Bytes that the log takes at most where nobody says otherwise."""
SWEEP_SECONDS: Final = 60.0
"""How often turns whose time is over are deleted."""
EVENT_BYTES: Final = 64
"""What an event takes beside its own bytes."""
TURN_BYTES: Final = 1_024
"""What a turn takes beside its events."""
_CLAIMS_SHARE: Final = 8
"""One part of so many is for claims."""
_AT_ONCE: Final = 256
"""Events that are read before others get their turn in the loop."""

_log = structlog.stdlib.get_logger("shieldmesh.turn_log")


@asynccontextmanager
async def open_memory(
    *, retention: float, memory: int = MEMORY, claim_window: float = CLAIM_WINDOW
) -> AsyncGenerator["MemoryLog"]:
    """A turn log in memory, which is gone at the end of the block.

    Args:
        retention: Seconds that a turn is kept after its end, if there is room for it.
        memory: Bytes that the log takes at most.
        claim_window: Seconds that a key stands for its turn, if there is room for it.
    """
    log = MemoryLog(retention=retention, memory=memory, claim_window=claim_window)
    with log.sweeping():
        yield log


@dataclass(slots=True)
class _Turn:
    """What is kept of a turn."""

    owner: Owner
    events: list[bytes] = field(default_factory=list[bytes])
    """All from the first to the last; none when they are forgotten, for whoever still reads them."""
    last: int = 0
    """The number of the last event that came."""
    size: int = TURN_BYTES
    ending: bytes | None = None
    expires: float = 0.0
    """When its time is over, once it has ended."""


class MemoryLog:
    """See `TurnLog` and `open_memory`. It belongs to the event loop in which it was made."""

    def __init__(self, *, retention: float, memory: int, claim_window: float) -> None:
        """See `open_memory`."""
        self._loop = asyncio.get_running_loop()
        self._retention = retention
        for_claims = memory // _CLAIMS_SHARE
        self._claims = Claims(claim_window, for_claims)
        self._limit = memory - for_claims
        self._size = 0
        """Bytes of all turns."""
        self._running: dict[str, _Turn] = {}
        self._ended: OrderedDict[str, _Turn] = OrderedDict()
        """In the order in which they ended, which is that in which their time is over."""
        self._followers = Followers()
        self._stop: Callable[[str], object] = _nobody

    @contextmanager
    def sweeping(self) -> Generator[None]:
        """Deletes what is over from time to time inside the block."""
        closing = threading.Event()

        def sweep() -> None:
            while not closing.wait(SWEEP_SECONDS):
                with suppress(RuntimeError):  # the loop is closed
                    self._loop.call_soon_threadsafe(self._expire)

        # Not by the loop's clock: a timer that is always there keeps the loop from letting go of those of turns.
        threading.Thread(target=context.detached().run, args=(sweep,), name="turn-log-sweep", daemon=True).start()
        try:
            yield
        finally:
            closing.set()

    def begin(self, turn: str, owner: Owner) -> None:
        """See `TurnLog`."""
        # A turn that is kept already has had its writer: a second one must not mix its events in.
        if self._kept(turn) is None:
            kept = self._running[turn] = _Turn(owner)
            self._take(kept.size)

    def append(self, turn: str, sequence: int, event: bytes) -> None:
        """See `TurnLog`."""
        kept = self._running.get(turn)
        if kept is None:
            return
        if sequence != kept.last + 1:
            self._lose(turn, kept, "events are missing")
            return
        kept.events.append(event)
        kept.last = sequence
        size = len(event) + EVENT_BYTES
        kept.size += size
        self._take(size)
        if turn in self._followers:
            self._followers.tell({turn})

    def seal(self, turn: str, error: MeshError | None = None) -> None:
        """See `TurnLog`."""
        kept = self._running.get(turn)
        if kept is not None:
            instruments().log_events.add(kept.last)
            self._end(turn, kept, to_bytes(error))

    async def room(self) -> None:
        """See `TurnLog`."""

    async def find(self, turn: str) -> Record | None:
        """See `TurnLog`."""
        kept = self._kept(turn)
        if kept is None:
            return None
        error = None if kept.ending is None else from_bytes(kept.ending)
        return Record(kept.owner, sealed=kept.ending is not None, error=error)

    async def follow(self, turn: str, after: int, *, live: bool = True) -> AsyncGenerator[bytes]:
        """See `TurnLog`."""
        kept = self._kept(turn)
        if kept is None:
            raise lost()
        with self._followers.following(turn) as news:
            while True:
                news.clear()
                while after < kept.last:
                    if not kept.events:
                        raise lost()
                    yield kept.events[after]
                    after += 1
                    if after % _AT_ONCE == 0:
                        await asyncio.sleep(0)
                if kept.ending is not None:
                    break
                if not live:
                    return
                await news.wait()
        error = from_bytes(kept.ending)
        if error is not None:
            raise error

    async def followed(self, turn: str) -> bool:
        """See `TurnLog`."""
        del turn
        return False  # no other process can

    async def expire(self) -> int:
        """See `TurnLog`."""
        return self._expire()

    async def forget(self, turn: str) -> None:
        """See `TurnLog`."""
        kept = self._running.get(turn)
        if kept is not None:
            self._end(turn, kept, to_bytes(lost()))
        if turn in self._ended:
            self._drop(turn)

    async def claim(self, key: str, turn: str, digest: bytes) -> Claim:
        """See `TurnLog`."""
        return self._claims.claim(key, Claim(turn, digest))

    def listen(self, stop: Callable[[str], object]) -> None:
        """See `TurnLog`."""
        self._stop = stop

    async def ask_to_stop(self, turn: str) -> None:
        """See `TurnLog`."""
        self._stop(turn)  # all that run have their writer in this process

    def _kept(self, turn: str) -> _Turn | None:
        return self._running.get(turn) or self._ended.get(turn)

    def _take(self, size: int) -> None:
        """Takes so much more memory, from others where there is no more."""
        self._size += size
        while self._size > self._limit:
            if self._ended:
                instruments().log_forgotten.add(1)
                self._drop(self._dispensable())
            else:
                turn = max(self._running, key=lambda each: self._running[each].size)
                self._clear(self._running[turn])
                self._lose(turn, self._running[turn], "the memory of the turn log is full")

    def _dispensable(self) -> str:
        """The turn that ended first, if possible of those that nobody reads now."""
        first = next(iter(self._ended))
        return next((turn for turn in self._ended if turn not in self._followers), first)

    def _lose(self, turn: str, kept: _Turn, why: str) -> None:
        """Keeps no more of a turn that runs: its readers get an error behind what there is of it."""
        instruments().log_lost.add(1)
        _log.error(f"a turn is not kept any more: {why}")
        self._end(turn, kept, to_bytes(lost()))

    def _end(self, turn: str, kept: _Turn, ending: bytes) -> None:
        del self._running[turn]
        kept.ending = ending
        kept.expires = time.monotonic() + self._retention
        self._ended[turn] = kept
        instruments().log_memory.set(self._size)
        self._followers.tell({turn})

    def _drop(self, turn: str) -> None:
        """Forgets a turn that has ended."""
        kept = self._ended.pop(turn)
        self._clear(kept)
        self._size -= kept.size

    def _clear(self, kept: _Turn) -> None:
        """Lets go of the events, also of those that somebody is about to read."""
        self._size -= kept.size - TURN_BYTES
        kept.size = TURN_BYTES
        kept.events = []

    def _expire(self) -> int:
        now = time.monotonic()
        count = 0
        while (turn := next(iter(self._ended), None)) is not None and self._ended[turn].expires < now:
            self._drop(turn)
            count += 1
        self._claims.expire()
        instruments().log_memory.set(self._size)
        return count


def _nobody(turn: str) -> None:
    """Listens until somebody does."""
    del turn
