"""An open-loop load: turns that arrive when they are due, whether or not earlier ones were answered.

Everything is measured from the moment a turn was due, so a mesh that stalls cannot hide behind a client that waits
(no coordinated omission). Made to run in a process of its own, with plain grpc.aio stubs, so that the client costs
little and shares nothing with what it measures. Times are `time.monotonic()`'s, which processes of a machine share.
"""

import asyncio
import time
from array import array
from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Final, Literal

import grpc
import uvloop

from shieldmesh.v1 import chat_pb2, generation_pb2, inference_pb2, message_pb2
from shieldmesh.v1.chat_pb2_grpc import ChatServiceStub
from shieldmesh.v1.inference_pb2_grpc import InferenceServiceStub

if TYPE_CHECKING:
    from shieldmesh.v1.chat_pb2_grpc import ChatServiceAsyncStub
    from shieldmesh.v1.inference_pb2_grpc import InferenceServiceAsyncStub

MESSAGES: Final = (
    message_pb2.Message(
        role=message_pb2.ROLE_USER,
        parts=[message_pb2.ContentPart(text="Please explain, in a few paragraphs, how assignment expressions work.")],
    ),
)
CALL_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class Load:
    """What one process asks of one server."""

    target: str
    """In gRPC's notation."""
    api: Literal["chat", "engine"]
    """Through the mesh, or of the inference service alone."""
    asked: str
    """The profile, or of the engine the model."""
    arrivals: Sequence[float]
    """When each turn is due."""
    until: float
    """When turns that still run are cut off."""


@dataclass(slots=True)
class Turn:
    """What became of one turn."""

    due: float
    times: "array[float]" = field(default_factory=lambda: array("d"))
    """When each delta came."""
    tokens: "array[int]" = field(default_factory=lambda: array("L"))
    """How many tokens it brought."""
    finished: float | None = None
    error: str = ""
    """The status of a turn that failed."""


def evenly(count: int, *, begin: float, seconds: float, seed: int = 1) -> list[float]:
    """`count` arrivals over `seconds`, each at a random moment of its own slot: a steady rate without a beat."""
    chance, slot = Random(seed), seconds / count
    return [begin + (number + chance.random()) * slot for number in range(count)]


def run(load: Load) -> list[Turn]:
    """All turns of the load. It returns when all have ended or were cut off."""
    return uvloop.run(_run(load))


async def _run(load: Load) -> list[Turn]:
    turns = [Turn(due) for due in sorted(load.arrivals)]
    tasks: list[asyncio.Task[None]] = []
    async with grpc.aio.insecure_channel(load.target) as channel:
        await channel.channel_ready()
        chats, models = ChatServiceStub(channel), InferenceServiceStub(channel)
        for turn in turns:
            await asyncio.sleep(turn.due - time.monotonic())
            answer = _chat(chats, load.asked, turn) if load.api == "chat" else _generate(models, load.asked, turn)
            tasks.append(asyncio.create_task(answer))
        if tasks:
            await asyncio.wait(tasks, timeout=max(0.0, load.until - time.monotonic()))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return turns


async def _chat(chats: "ChatServiceAsyncStub", profile: str, turn: Turn) -> None:
    request = chat_pb2.ChatRequest(profile=profile, messages=MESSAGES)
    await _note(chats.Chat(request, timeout=CALL_SECONDS), turn)


async def _generate(models: "InferenceServiceAsyncStub", model: str, turn: Turn) -> None:
    call = models.Generate(timeout=CALL_SECONDS)
    opening = inference_pb2.GenerateOpen(model=model, messages=MESSAGES, sampling=generation_pb2.Sampling())
    await call.write(inference_pb2.GenerateRequest(open=opening))
    await _note(call, turn)


async def _note(events: AsyncIterable[chat_pb2.ChatEvent | inference_pb2.GenerateEvent], turn: Turn) -> None:
    try:
        async for event in events:
            if event.HasField("delta"):
                turn.times.append(time.monotonic())
                turn.tokens.append(event.delta.token_count)
        turn.finished = time.monotonic()
    except grpc.aio.AioRpcError as error:
        turn.error = error.code().name
