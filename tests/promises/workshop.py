"""An engine that does its work all over the process: in threads, in pools, and in workers that serve every turn.

Everywhere it looks at whose work it is, opens a span and writes a line, each with the owner that the work itself names.
"""

import asyncio
import queue
import random
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import structlog

from services.inference.backend import GenerationRequest, Step, Usage
from services.inference.replay import Replay, ReplayBackend, ReplayOptions
from shieldmesh import context, telemetry
from shieldmesh.context import Captured, RequestContext

OWNER: Final = "test.owner"

_log = structlog.stdlib.get_logger("test.workshop")


def look(owner: str) -> tuple[RequestContext, str]:
    """Whose work this is, for those who ask here; said in a span and a line as well."""
    with telemetry.span("look", {OWNER: owner}):
        _log.info("looked", owner=owner)
        return context.current(), telemetry.trace_id()


@dataclass
class Workshop:
    """Where work is done.

    Attributes:
        seen: What each piece of work saw: its owner, by the prompt, and the context and trace it ran in.
    """

    chance: random.Random
    seen: list[tuple[str, RequestContext, str]] = field(default_factory=list[tuple[str, RequestContext, str]])
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(4))
    _items: "asyncio.Queue[tuple[Captured, str, asyncio.Future[tuple[RequestContext, str]]]]" = field(
        default_factory=asyncio.Queue[tuple[Captured, str, "asyncio.Future[tuple[RequestContext, str]]"]]
    )
    _thread_items: "queue.Queue[Callable[[], None] | None]" = field(
        default_factory=queue.Queue["Callable[[], None] | None"]
    )

    async def work(self, owner: str) -> None:
        """One piece of work, somewhere."""
        place = self.chance.choice(
            [self._here, self._in_a_thread, self._in_a_pool, self._by_a_worker, self._by_a_thread]
        )
        self.seen.append((owner, *await place(owner)))

    async def _here(self, owner: str) -> tuple[RequestContext, str]:
        await asyncio.sleep(0)
        return look(owner)

    async def _in_a_thread(self, owner: str) -> tuple[RequestContext, str]:
        return await context.run_in_thread(look, owner)

    async def _in_a_pool(self, owner: str) -> tuple[RequestContext, str]:
        return await asyncio.wrap_future(self._pool.submit(context.bind(look), owner))

    async def _by_a_worker(self, owner: str) -> tuple[RequestContext, str]:
        answer: asyncio.Future[tuple[RequestContext, str]] = asyncio.get_running_loop().create_future()
        self._items.put_nowait((context.capture(), owner, answer))
        return await answer

    async def _by_a_thread(self, owner: str) -> tuple[RequestContext, str]:
        captured = context.capture()
        answer: Future[tuple[RequestContext, str]] = Future()

        def item() -> None:
            with captured.use():
                answer.set_result(look(owner))

        self._thread_items.put(item)
        return await asyncio.wrap_future(answer)

    async def serve(self) -> None:
        """The worker: one task for all turns, which takes the context of each item."""
        while True:
            assert context.current() == RequestContext()
            captured, owner, answer = await self._items.get()
            with captured.use():
                await asyncio.sleep(0)
                seen = look(owner)
            if not answer.done():
                answer.set_result(seen)

    def serve_in_thread(self) -> None:
        """The same in a thread."""
        while (item := self._thread_items.get()) is not None:
            item()
            assert context.current() == RequestContext()

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        """Runs the workers inside the block."""
        worker = asyncio.create_task(self.serve(), context=context.detached())
        thread = threading.Thread(target=context.detached().run, args=(self.serve_in_thread,))
        thread.start()
        try:
            yield
        finally:
            self._thread_items.put(None)
            await asyncio.to_thread(thread.join)
            self._pool.shutdown()
            worker.cancel()
            await asyncio.wait([worker])
            assert worker.cancelled()


class WorkshopBackend(ReplayBackend):
    """Echoes, and has each step done in the workshop. The first word of a prompt is its owner."""

    def __init__(self, workshop: Workshop) -> None:
        super().__init__(ReplayOptions(echo=True))
        self._workshop = workshop

    def generate(self, request: GenerationRequest) -> "WorkshopGeneration":  # type: ignore[override]
        """See `Backend.generate`."""
        return WorkshopGeneration(super().generate(request), self._workshop, request.messages[-1].text.split()[0])


class WorkshopGeneration:
    """One generation of a `WorkshopBackend`."""

    def __init__(self, replay: Replay, workshop: Workshop, owner: str) -> None:
        self._replay = replay
        self._workshop = workshop
        self._owner = owner

    @property
    def usage(self) -> Usage:
        """See `Generation.usage`."""
        return self._replay.usage

    async def batches(self) -> AsyncGenerator[Sequence[Step]]:
        """See `Generation.batches`."""
        async for batch in self._replay.batches():
            await self._workshop.work(self._owner)
            yield batch

    def stop(self) -> None:
        """See `Generation.stop`."""
        self._replay.stop()
