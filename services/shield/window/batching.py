"""One model for many turns: what waits while it is at work is its next batch."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar

import structlog
from opentelemetry import trace

from services.shield.shield import ShieldError
from shieldmesh import context
from shieldmesh.affinity import LoopPool
from shieldmesh.telemetry import Name

S = TypeVar("S")
"""What is said about a window."""
Model: TypeAlias = Callable[[Sequence[str]], Sequence[S]]
"""Says something about each of a few windows of any turns. Called in threads, by one at a time; blocks for as long as
it takes. What it says about one depends on that one alone."""

_log = structlog.stdlib.get_logger("shieldmesh.shield")

MAX_BATCH: Final = 32
"""Windows that a model is given at once."""
MAX_WAITING: Final = 4_096
"""Windows that may wait for a model; one more is refused."""


class _Item(NamedTuple, Generic[S]):
    """A window, and who waits for what is said about it."""

    text: str
    answer: "asyncio.Future[tuple[S, int]]"


class Batcher(Generic[S]):
    """Has a model look at windows of all turns of a loop, in threads, and a batch at a time.

    No timer: the first window is looked at at once, alone, and all that come meanwhile are looked at next, together.
    """

    def __init__(
        self, model: Model[S], *, name: str, max_batch: int = MAX_BATCH, max_waiting: int = MAX_WAITING
    ) -> None:
        """`name` is what logs call the model."""
        self._model = model
        self._name = name
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._queues: LoopPool[str, _Queue[S]] = LoopPool(lambda queue: queue.close())

    async def ask(self, text: str) -> S:
        """What the model says about a window.

        Raises:
            ShieldError: the model failed, or too much waits for it.
        """
        queue = self._queues.get("", lambda: _Queue(self._model, self._name, self._max_batch))
        if queue.length >= self._max_waiting:
            raise ShieldError("SHIELD_UNAVAILABLE")
        said, batch = await queue.put(text)
        trace.get_current_span().set_attribute(Name.BATCH, batch)
        return said


class _Queue(Generic[S]):
    """What waits on one loop for a model, and the worker that is there as long as something waits."""

    def __init__(self, model: Model[S], name: str, max_batch: int) -> None:
        self._model = model
        self._name = name
        self._max_batch = max_batch
        self._items: deque[_Item[S]] = deque()
        self._worker: asyncio.Task[None] | None = None
        # Its own: a model that hangs takes no thread from others.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"model-{name}")

    @property
    def length(self) -> int:
        """How many windows wait."""
        return len(self._items)

    def put(self, text: str) -> "asyncio.Future[tuple[S, int]]":
        """The answer to come for a window: what was said, and how many windows were in its batch."""
        item: _Item[S] = _Item(text, asyncio.get_running_loop().create_future())
        self._items.append(item)
        if self._worker is None:
            # It works for all turns: the one that happens to be first lends it nothing.
            self._worker = asyncio.create_task(self._work(), context=context.detached())
        return item.answer

    async def close(self) -> None:
        """Gives up what waits."""
        self._thread.shutdown(wait=False)
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.wait([self._worker])

    async def _work(self) -> None:
        try:
            while batch := self._batch():
                await self._look(batch)
        finally:
            self._worker = None
            for item in self._items:
                item.answer.cancel()
            self._items.clear()

    def _batch(self) -> list[_Item[S]]:
        """The next windows that somebody still waits for."""
        batch: list[_Item[S]] = []
        while self._items and len(batch) < self._max_batch:
            item = self._items.popleft()
            if not item.answer.done():
                batch.append(item)
        return batch

    async def _look(self, batch: Sequence[_Item[S]]) -> None:
        try:
            texts = [item.text for item in batch]
            said = await asyncio.get_running_loop().run_in_executor(self._thread, self._model, texts)
            answers = list(zip(batch, said, strict=True))
        except Exception as error:  # noqa: BLE001  # whatever goes wrong in a model, the policies decide
            # Its type alone: its message could hold a text.
            _log.error("model failed", model=self._name, error_type=type(error).__name__, windows=len(batch))
            for item in batch:
                if not item.answer.done():
                    item.answer.set_exception(ShieldError("SHIELD_MODEL_FAILED"))
        else:
            for item, answer in answers:
                if not item.answer.done():
                    item.answer.set_result((answer, len(batch)))
        finally:
            # Those that have no answer by now get none.
            for item in batch:
                item.answer.cancel()
