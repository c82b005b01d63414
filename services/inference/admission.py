"""Who may use a model now, who waits, and who is sent away."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from shieldmesh import telemetry
from shieldmesh.errors import ResourceExhaustedError
from shieldmesh.telemetry import Name, SpanName

_FIRST_GUESS = 1.0
_WEIGHT_OF_NEWEST = 0.2
_RETRY_BOUNDS = (0.1, 60.0)


class Admission:
    """The places of one model: a limit of running generations and a bounded queue, first come, first served.

    Attributes:
        running: Generations that hold a place.
    """

    def __init__(self, model: str, *, max_running: int, max_waiting: int) -> None:
        self.running = 0
        self.max_running = max_running
        self._max_waiting = max_waiting
        self._model = model
        self._queue: deque[asyncio.Future[None]] = deque()
        self._typical_seconds = _FIRST_GUESS

    @property
    def waiting(self) -> int:
        """Generations that wait for a place."""
        return len(self._queue)

    @asynccontextmanager
    async def place(self) -> AsyncGenerator[float, None]:
        """Holds a place inside the block; yields the seconds that were waited for it.

        Raises:
            ResourceExhaustedError: all places and the whole queue are taken.
        """
        asked = time.monotonic()
        with telemetry.span(SpanName.QUEUE, {Name.QUEUED_AT: self._model}):
            await self._enter()
        admitted = time.monotonic()
        try:
            yield admitted - asked
        finally:
            self._typical_seconds += _WEIGHT_OF_NEWEST * (time.monotonic() - admitted - self._typical_seconds)
            self._leave()

    async def _enter(self) -> None:
        if self.running < self.max_running:
            self.running += 1
            return
        if len(self._queue) >= self._max_waiting:
            raise ResourceExhaustedError(
                f"the model {self._model} is busy: {self.running} generations run and {self.waiting} wait, "
                "no more are taken; try again later",
                reason="QUEUE_FULL",
                retry_after=self._retry_after(),
            )
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn in self._queue:
                self._queue.remove(turn)
            elif not turn.cancelled():
                # The place came in the same moment as the cancellation: it goes on to the next.
                self._leave()
            raise

    def _leave(self) -> None:
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                # The place changes hands; as many run as before.
                turn.set_result(None)
                return
        self.running -= 1

    def _retry_after(self) -> float:
        """Seconds until the queue has probably moved on by one whole length."""
        lowest, highest = _RETRY_BOUNDS
        return min(highest, max(lowest, self._typical_seconds * (self.waiting + 1) / self.max_running))
