"""What the caller says after it opened a generation: nothing, or stop."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

from shieldmesh.errors import InvalidArgumentError
from shieldmesh.v1 import inference_pb2

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
    """Stops a generation when the caller says so."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
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

    async def listen(self, requests: Requests) -> None:
        """Waits for a second request; closing the sending side changes nothing."""
        async for request in requests:
            self._misused = not request.HasField("stop")
            self._generation.stop()
            self._stopped.set()
            return

    def check(self) -> None:
        """Raises an InvalidArgumentError if what came was no stop; the generation was stopped then, too."""
        if self._misused:
            raise InvalidArgumentError("request: after open, only stop may follow", field="request")


@asynccontextmanager
async def listening(requests: Requests, generation: Generation) -> AsyncGenerator[Control]:
    """Listens to the caller inside the block.

    Raises:
        InvalidArgumentError: when leaving the block, if the caller sent something that is no stop.
    """
    control = Control(generation)
    # No TaskGroup: one around a `yield` would wrap the GeneratorExit of a cancelled call in a group.
    listener = asyncio.create_task(control.listen(requests))
    try:
        yield control
    finally:
        listener.cancel()
        await asyncio.wait([listener])
    control.check()
