"""How interim results travel back: within the responses of the calls that belong to a turn.

A stream of responses has messages for them, which go out at once, between two of the handler's. A single response
brings them with it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from types import TracebackType
from typing import Any, Final, TypeVar

import grpc

from shieldmesh.interceptors.limit import WRITE_SECONDS
from shieldmesh.publishing import published_to
from shieldmesh.v1 import inference_pb2, progress_pb2, shield_pb2

T = TypeVar("T")
Write = Callable[[Any], Awaitable[None]]  # Any: responses differ per method

MOST_WAITING: Final = 64
"""Results that may wait for a caller who reads slowly."""

_STREAMS: Final[dict[str, Callable[[progress_pb2.Progress], object]]] = {
    "shieldmesh.v1.InferenceService/Generate": lambda each: inference_pb2.GenerateEvent(progress=each),
    "shieldmesh.v1.ShieldService/InspectStream": lambda each: shield_pb2.InspectStreamResponse(progress=each),
}
"""The streams that bring results, and how."""
_UNARIES: Final[dict[str, Callable[[Any], Any]]] = {
    "shieldmesh.v1.ShieldService/Inspect": lambda answer: answer.progress
}
"""The other methods that do, and where in the response."""


def streamed(method: str, write: Write) -> AbstractAsyncContextManager[Write]:
    """Around a call whose answer is a stream; gives what writes the handler's messages."""
    wrap = _STREAMS.get(method)
    return nullcontext(write) if wrap is None else _Writer(write, wrap)


async def gathered(method: str, response: Awaitable[T]) -> T:
    """The response of a call whose answer is one message, with the results in it."""
    field = _UNARIES.get(method)
    if field is None:
        return await response
    results: list[progress_pb2.Progress] = []

    def take(result: progress_pb2.Progress) -> bool:
        if len(results) < MOST_WAITING:
            results.append(result)
            return True
        return False

    with published_to(take):
        answer = await response
    field(answer).extend(results)
    return answer


class _Writer:
    """Writes the handler's messages, and results between them: a call takes one message at a time."""

    __slots__ = ("_begun", "_busy", "_flushing", "_published", "_results", "_wrap", "_write", "_written")

    def __init__(self, write: Write, wrap: Callable[[progress_pb2.Progress], object]) -> None:
        self._write = write
        self._wrap = wrap
        self._results: list[progress_pb2.Progress] = []  # an empty deque is ten times as large
        self._written: object = None
        """What the handler wrote last."""
        self._busy = False
        self._begun = False
        """Whether a message is out: before, none may be given up half-way."""
        self._flushing: asyncio.Task[None] | None = None
        self._published = published_to(self.take)

    async def __aenter__(self) -> Write:
        self._published.__enter__()
        return self.write

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None
    ) -> None:
        self._published.__exit__(kind, error, place)
        if error is not None:
            await self._give_up()
            return
        try:
            await self._finish()
        except BaseException:
            await self._give_up()
            raise

    def take(self, result: progress_pb2.Progress) -> bool:
        """Has a result written as soon as nothing else is."""
        if len(self._results) >= MOST_WAITING or _is_last(self._written):
            return False
        self._results.append(result)
        if not self._busy:
            self._flush_soon()
        return True

    async def write(self, message: object) -> None:
        """Writes a message of the handler's behind the results that came before it."""
        while self._flushing is not None:
            await asyncio.wait([self._flushing])
        self._busy = True
        try:
            while self._results:
                await self._write(self._wrap(self._results.pop(0)))
            self._written = message
            await self._write(message)
            self._begun = True
        finally:
            self._busy = False
        if self._results:
            self._flush_soon()

    async def _finish(self) -> None:
        """Returns when nothing is being written any more, and has nothing more written."""
        self._results.clear()
        if self._flushing is not None:
            await asyncio.wait([self._flushing])

    async def _give_up(self) -> None:
        """Writes nothing more, but for the message that is on its way: given up, it would let no status follow."""
        self._results.clear()
        if self._flushing is not None:
            # A first message never waits for its reader, unlike later ones.
            _, stuck = await asyncio.wait([self._flushing], timeout=WRITE_SECONDS if self._begun else None)
            for flushing in stuck:
                flushing.cancel()
                await asyncio.wait([flushing])

    def _flush_soon(self) -> None:
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())

    async def _flush(self) -> None:
        try:
            # Whatever is wrong with the call, its handler hears of it.
            with suppress(grpc.aio.AioRpcError, grpc.aio.InternalError, asyncio.InvalidStateError):
                while self._results:
                    await self._write(self._wrap(self._results.pop(0)))
                    self._begun = True
        finally:
            self._flushing = None


def _is_last(message: object) -> bool:
    """Whether the contract says that nothing follows."""
    return isinstance(message, inference_pb2.GenerateEvent) and message.HasField("finished")
