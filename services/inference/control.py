"""What the caller says after it opened a generation: how much it has taken, or stop."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

from shieldmesh.errors import InvalidArgumentError
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
    """Stops a generation when the caller says so, and has it wait for one that does not follow."""

    def __init__(self, generation: Generation, window: Window | None = None) -> None:
        """`window`: how far the generation may be ahead; None: as far as it gets."""
        self._generation = generation
        self._window = window
        self._room = asyncio.Event()
        self._room.set()
        self._stopped = asyncio.Event()
        self._misused = False

    async def unless_stopped(self, work: Awaitable[T]) -> T | None:
        """What `work` gives, or None when the caller stopped first; then `work` is cancelled."""
        task = asyncio.ensure_future(work)
        stopped = asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
        return None if task.cancelled() else task.result()

    def sent(self, delta: generation_pb2.Delta) -> None:
        """The caller is sent output."""
        if self._window is not None:
            self._window.add(delta)
            if self._window.used_up and not self._stopped.is_set():
                self._room.clear()

    async def room(self) -> None:
        """Returns when more may be generated, or nothing is to be any more."""
        if not self._room.is_set():
            await self._room.wait()

    async def listen(self, requests: Requests) -> None:
        """Hears the requests after the first, to the first stop; closing the sending side changes nothing."""
        async for request in requests:
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

    def check(self) -> None:
        """Raises an InvalidArgumentError if what came was no stop; the generation was stopped then, too."""
        if self._misused:
            message = "request: after open, only stop may follow and, where there is a window, credit"
            raise InvalidArgumentError(message, field="request")


@asynccontextmanager
async def listening(
    requests: Requests, generation: Generation, window: Window | None = None
) -> AsyncGenerator[Control]:
    """Listens to the caller inside the block.

    Raises:
        InvalidArgumentError: when leaving the block, if the caller sent something that is no stop.
    """
    control = Control(generation, window)
    # No TaskGroup: one around a `yield` would wrap the GeneratorExit of a cancelled call in a group.
    listener = asyncio.create_task(control.listen(requests))
    try:
        yield control
    finally:
        listener.cancel()
        await asyncio.wait([listener])
    control.check()
