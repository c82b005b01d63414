"""One generation at the inference service, which ends with an exact account however it ends."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeAlias

import grpc

from shieldmesh import calls
from shieldmesh.v1 import inference_pb2

Rpc: TypeAlias = "grpc.aio.StreamStreamMultiCallable[inference_pb2.GenerateRequest, inference_pb2.GenerateEvent]"
Call: TypeAlias = "grpc.aio.StreamStreamCall[inference_pb2.GenerateRequest, inference_pb2.GenerateEvent]"
Take = Callable[[inference_pb2.GenerateEvent], Awaitable[None]]

STOP_SECONDS: Final = 2.0
"""How long a stopped engine may take to say what it generated, before the call is cancelled without that. It has heard
`stop` by then: waiting for the account costs no tokens."""


async def generate(rpc: "Rpc", opening: inference_pb2.GenerateOpen, take: Take, let_go: Callable[[], None]) -> None:
    """Gives each event to `take`. When this is cancelled, the engine stops and its last events are still taken.

    The call is read in a task of its own: cancelling a task in a read would cancel the call, and the account with it.

    Args:
        rpc: `InferenceService.Generate`.
        opening: What is asked.
        take: Called with each event in order.
        let_go: Called before the engine is stopped early: `take` must not wait for anyone any more.

    Raises:
        MeshError: the service failed.
    """
    async with calls.bidi(rpc) as call:
        await call.write(inference_pb2.GenerateRequest(open=opening))
        reader = asyncio.create_task(_read(call, take))
        try:
            await asyncio.shield(reader)
        finally:
            if not reader.done():
                let_go()
                await _stop(call, reader)


async def _read(call: "Call", take: Take) -> None:
    async for event in call:
        await take(event)


async def _stop(call: "Call", reader: asyncio.Task[None]) -> None:
    # Whatever goes wrong from here on, the turn is over already and has its own reason.
    with suppress(TimeoutError, grpc.aio.AioRpcError, asyncio.InvalidStateError):
        async with asyncio.timeout(STOP_SECONDS):
            await call.write(inference_pb2.GenerateRequest(stop=inference_pb2.GenerateStop()))
            await asyncio.wait([reader])
    reader.cancel()
    await asyncio.wait([reader])
    if not reader.cancelled():
        reader.exception()  # looked at, or asyncio would complain that nobody did
