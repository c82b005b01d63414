"""One generation at the inference service, which ends with an exact account however it ends."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeAlias

import grpc

from shieldmesh import calls
from shieldmesh.ending import GenerationEnding
from shieldmesh.errors import InternalError
from shieldmesh.flag import Flag
from shieldmesh.v1 import inference_pb2
from shieldmesh.window import Window

from .waiting import until_done

Rpc: TypeAlias = "grpc.aio.StreamStreamMultiCallable[inference_pb2.GenerateRequest, inference_pb2.GenerateEvent]"
Call: TypeAlias = "grpc.aio.StreamStreamCall[inference_pb2.GenerateRequest, inference_pb2.GenerateEvent]"
Take = Callable[[inference_pb2.GenerateEvent], Awaitable[None]]

STOP_SECONDS: Final = 2.0
"""How long a stopped engine may take to say what it generated, before the call is cancelled without that. It has heard
`stop` by then: waiting for the account costs no tokens."""


async def generate(
    rpc: "Rpc",
    opening: inference_pb2.GenerateOpen,
    take: Take,
    *,
    let_go: Callable[[], None],
    asked: Callable[[], None],
) -> None:
    """Gives each event to `take`. When this is cancelled, the engine stops and its last events are still taken.

    The call is read in a task of its own: cancelling a task in a read would cancel the call, and the account with it.

    Args:
        rpc: `InferenceService.Generate`.
        opening: What is asked.
        take: Called with each event in order.
        let_go: Called before the engine is stopped early: `take` must not wait for anyone any more.
        asked: Called when the opening is about to be said, or cannot be.

    Raises:
        MeshError: the service failed.
    """
    async with calls.bidi(rpc) as call:
        talk = _Talk(call)
        ending = GenerationEnding()
        call.add_done_callback(ending.note)
        reader = asyncio.create_task(_converse(talk, opening, ending, take, asked))
        try:
            await asyncio.shield(reader)
        finally:
            if not reader.done():
                let_go()
                await until_done(asyncio.create_task(_stop(talk, reader)))


class _Talk:
    """A call in which things are said one after the other, by more than one task.

    An engine can be done before a write is, well or not: that fails then, and what the engine said is there to be read.

    Attributes:
        opened: Set when the opening has been said, or cannot be.
    """

    def __init__(self, call: "Call") -> None:
        self.call = call
        self.opened = Flag()
        self._writing = asyncio.Lock()

    async def say(self, request: inference_pb2.GenerateRequest) -> None:
        """Says it, unless the call has ended."""
        async with self._writing:
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await self.call.write(request)


async def _converse(
    talk: _Talk, opening: inference_pb2.GenerateOpen, ending: GenerationEnding, take: Take, asked: Callable[[], None]
) -> None:
    finished = False
    window: Window | None = None
    try:
        with suppress(grpc.aio.AioRpcError):
            await talk.call.wait_for_connection()
        asked()  # what others begin now comes behind the opening
        await talk.say(inference_pb2.GenerateRequest(open=opening))
    finally:
        talk.opened.set()
    try:
        async for event in talk.call:
            await take(event)
            # 1. the most frequent, 2. the first, 3. the last
            if event.HasField("delta"):
                if window is not None:
                    window.add(event.delta)
                    if window.half_used:
                        await talk.say(inference_pb2.GenerateRequest(credit=window.credit()))
            elif event.HasField("started") and event.started.HasField("window"):
                window = Window(event.started.window)
            finished = event.HasField("finished")
    except grpc.aio.AioRpcError:
        if finished:
            return  # all was said: what failed is a write that came too late
        await ending.heard(talk.call)
        if ending.usage is not None:
            await take(inference_pb2.GenerateEvent(finished=inference_pb2.GenerateFinished(usage=ending.usage)))
        raise
    if not finished:
        raise InternalError("the inference service ended before it had finished", reason="ENGINE_BROKEN")


async def _stop(talk: _Talk, reader: asyncio.Task[None]) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(STOP_SECONDS):
            # Cut off while the opening is on its way, an engine could begin that nobody accounts for.
            await talk.opened.wait()
            # It may have ended already. Whatever is wrong with it, the turn is over and has its own reason.
            await talk.say(inference_pb2.GenerateRequest(stop=inference_pb2.GenerateStop()))
            await asyncio.wait([reader])
    reader.cancel()
    await asyncio.wait([reader])
    if not reader.cancelled():
        reader.exception()  # looked at, or asyncio would complain that nobody did
