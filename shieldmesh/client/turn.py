"""One turn, read as it happens."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from types import AsyncGeneratorType, TracebackType
from typing import Any, Self, TypeAlias, cast

import grpc

from shieldmesh import calls, channels, context
from shieldmesh.client import wire
from shieldmesh.client.events import Event, Result
from shieldmesh.client.reach import explain
from shieldmesh.client.reconnect import Reading
from shieldmesh.client.request import AnyCall, Call
from shieldmesh.errors import CancelledCallError, MeshError
from shieldmesh.v1 import chat_pb2, chat_pb2_grpc

EventStream: TypeAlias = "grpc.aio.UnaryStreamCall[Any, chat_pb2.ChatEvent]"  # Any: chat or resume


class Turn:
    """The events of one turn, to be read once with `async for`. The call is made when the first one is asked for.

    Reading to the end, an error, and leaving `async with turn:` all end the call. So does dropping the turn, as
    `async for event in mesh.chat(…): break` does; where somebody else may hold on to it, use `async with` or `aclose`.
    A connection that breaks ends nothing: the reading goes on after the last event, and `Reconnected` tells of it.
    """

    def __init__(self, target: str, reading: Reading) -> None:
        self._running = _Running()
        # The generator must not know this object: without a cycle, dropping the turn closes it at once.
        # It is an AsyncGeneratorType, which typing has no way to say of a function.
        self._events = cast("AsyncGeneratorType[Event]", _read(target, reading, self._running))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        return await anext(self._events)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def result(self) -> Result:
        """The whole turn, once it has ended.

        Raises:
            MeshError: the mesh could not do its job; the error's hops say where.
        """
        async with self:
            return wire.collect([event async for event in self])

    async def text(self) -> str:
        """All released text, once the turn has ended.

        Raises:
            MeshError: see `result`.
        """
        return (await self.result()).text

    async def aclose(self) -> None:
        """Cancels what still runs. Whoever is reading meanwhile gets a `CancelledCallError`."""
        self._running.close()
        if not self._events.ag_running:
            await self._events.aclose()


class _Running:
    """The call behind a turn, once it is made."""

    def __init__(self) -> None:
        self.call: grpc.aio.Call | None = None
        self._closed = asyncio.Event()

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def close(self) -> None:
        self._closed.set()
        if self.call is not None:
            self.call.cancel()

    async def pause(self, seconds: float) -> None:
        """Waits.

        Raises:
            CancelledCallError: the turn is closed meanwhile.
        """
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), seconds)
            raise _closed()


async def _read(target: str, reading: Reading, running: _Running) -> AsyncGenerator[Event]:
    try:
        while True:
            try:
                async with AsyncExitStack() as stack:
                    call = reading.call()
                    with context.use(call.identity):
                        opening = _opening(chat_pb2_grpc.ChatServiceStub(channels.get(target)), call)
                        stream = running.call = await stack.enter_async_context(opening)
                    message: chat_pb2.ChatEvent
                    async for message in stream:
                        for event in reading.read(message):
                            yield event
                reading.end()
                return
            except MeshError as error:
                failure = explain(error, target, reading.sequence)
            await running.pause(reading.failed(failure))
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if running.closed and task is not None and not task.cancelling():
            raise _closed() from None
        raise
    finally:
        forsaken = reading.forsaken()
        if forsaken is not None:
            await _end(target, forsaken)


def _closed() -> CancelledCallError:
    return CancelledCallError("the turn was closed while it was being read")


def _opening(stub: "chat_pb2_grpc.ChatServiceAsyncStub", call: AnyCall) -> "AbstractAsyncContextManager[EventStream]":
    if isinstance(call.request, chat_pb2.ResumeRequest):
        return calls.stream(stub.Resume, call.request, timeout=call.timeout)
    return calls.stream(stub.Chat, call.request, timeout=call.timeout)


async def _end(target: str, call: Call[chat_pb2.CancelTurnRequest]) -> None:
    """Ends a turn that waits for its reader. If that fails, its grace ends it."""
    stub = chat_pb2_grpc.ChatServiceStub(channels.get(target))
    with suppress(MeshError, grpc.aio.UsageError), context.use(call.identity):
        await calls.unary(stub.CancelTurn, call.request, timeout=call.timeout)
