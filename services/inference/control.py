"""What the caller says after it opened a generation: how much it has taken, or stop."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from types import TracebackType
from typing import Any, TypeVar

from shieldmesh.errors import InvalidArgumentError
from shieldmesh.flag import Flag
from shieldmesh.v1 import generation_pb2, inference_pb2
from shieldmesh.window import Window

from .backend import Generation

Requests = AsyncIterator[inference_pb2.GenerateRequest]
T = TypeVar("T")


async def opening(requests: Requests) -> inference_pb2.GenerateOpen:
    """The first request's opening.

    Raises:
        InvalidArgumentError: the caller sent something else first, or nothing.
    """
    async for request in requests:
        if request.HasField("open"):
            return request.open
        break
    raise InvalidArgumentError("open: the first request of a generation opens it", field="open")


class Control:
    """Stops a generation when the caller says so, and has it wait for one that does not follow.

    It listens inside its block, and raises an InvalidArgumentError on leaving it if the caller sent what it may not.
    """

    def __init__(self, requests: Requests, generation: Generation, window: Window | None = None) -> None:
        """`requests` are those behind the opening. `window`: how far the generation may be ahead; None: no matter."""
        self._requests = requests
        self._generation = generation
        self._window = window
        self._room = Flag(is_set=True)
        self._stopped = Flag()
        self._misused = False

    async def __aenter__(self) -> "Control":
        # No TaskGroup: one around a `yield` would wrap the GeneratorExit of a cancelled call in a group.
        self._listener = asyncio.create_task(self._listen())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None
    ) -> None:
        self._listener.cancel()
        await asyncio.wait([self._listener])
        if self._misused and error is None:
            message = "request: after open, only stop may follow and, where there is a window, credit"
            raise InvalidArgumentError(message, field="request")

    async def unless_stopped(self, work: Awaitable[T]) -> T | None:
        """What `work` gives, or None when the caller stopped first; then `work` is cancelled."""
        task = asyncio.ensure_future(work)
        stopped = self._stopped.wait()
        either: list[asyncio.Future[Any]] = [task, stopped]  # Any: they give different things
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
        return None if task.cancelled() else task.result()

    def sent(self, delta: generation_pb2.Delta) -> None:
        """The caller is sent output."""
        window = self._window
        if window is not None:
            window.add(delta)
            if window.used_up and not self._stopped.is_set:
                self._room.clear()

    async def room(self) -> None:
        """Returns when more may be generated, or nothing is to be any more."""
        if not self._room.is_set:
            await self._room.wait()

    async def _listen(self) -> None:
        """Hears the requests to the first stop; closing the sending side changes nothing."""
        async for request in self._requests:
            if request.HasField("credit") and self._window is not None:
                self._window.grant(request.credit)
                if not self._window.used_up:
                    self._room.set()
                continue
            self._misused = not request.HasField("stop")
            self._generation.stop()
            self._stopped.set()
            self._room.set()
            return
