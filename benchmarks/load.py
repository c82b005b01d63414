"""An open-loop load: turns that arrive when they are due, whether or not earlier ones were answered.

Everything is measured from the moment a turn was due, so a mesh that stalls cannot hide behind a client that waits
(no coordinated omission). Made to run in a process of its own, with plain grpc.aio, so that the client costs
little and shares nothing with what it measures. Times are `time.monotonic()`'s, which processes of a machine share.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import grpc
import uvloop

from shieldmesh.v1 import chat_pb2, generation_pb2, inference_pb2, message_pb2

from .openai_client import OpenAIClient
from .turns import Turn

Chats: TypeAlias = "grpc.aio.UnaryStreamMultiCallable[chat_pb2.ChatRequest, bytes]"
Generate: TypeAlias = "grpc.aio.StreamStreamMultiCallable[inference_pb2.GenerateRequest, bytes]"

TEXT: Final = "Please explain, in a few paragraphs, how assignment expressions work."
MESSAGES: Final = (message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.ContentPart(text=TEXT)]),)
CALL_SECONDS: Final = 600.0
_CHAT: Final = "/shieldmesh.v1.ChatService/Chat"
_GENERATE: Final = "/shieldmesh.v1.InferenceService/Generate"


@dataclass(frozen=True, slots=True)
class Load:
    """What one process asks of one server."""

    target: str
    """In gRPC's notation; for OpenAI's API `host:port`."""
    api: Literal["chat", "engine", "openai"]
    """Through the mesh, of the inference service alone, or with OpenAI's chat completions."""
    asked: str = ""
    """The profile, or of an engine and of OpenAI's API the model."""
    arrivals: Sequence[float] = ()
    """When each turn is due."""
    until: float = 0.0
    """When turns that still run are cut off."""
    connections: int = 1
    """How many gRPC connections share the turns."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """What a request with OpenAI's API needs beside the usual."""
    fields: Mapping[str, object] = field(default_factory=dict[str, object])
    """What a request with OpenAI's API says beside the model and the message."""
    max_tokens: int | None = None
    """After how many tokens an engine stops; a profile says that itself."""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])  # Any: JSON
    """What an engine's model is told beside that."""


class Answers(NamedTuple):
    """What became of a load, and what making it cost."""

    turns: list[Turn]
    cores: float
    """Processors that the client kept busy, from the first arrival to the end."""


def evenly(count: int, *, begin: float, seconds: float, seed: int = 1) -> list[float]:
    """`count` arrivals over `seconds`, each at a random moment of its own slot: a steady rate without a beat."""
    chance, slot = Random(seed), seconds / count
    return [begin + (number + chance.random()) * slot for number in range(count)]


def run(load: Load) -> Answers:
    """All turns of the load. It returns when all have ended or were cut off."""
    return uvloop.run(_run(load))


async def _run(load: Load) -> Answers:
    turns = [Turn(due) for due in sorted(load.arrivals)]
    async with AsyncExitStack() as stack:
        ask = await _asker(load, stack)
        await asyncio.sleep(turns[0].due - time.monotonic() if turns else 0)
        began, used = time.monotonic(), time.process_time()
        tasks: list[asyncio.Task[None]] = []
        for turn in turns:
            await asyncio.sleep(turn.due - time.monotonic())
            tasks.append(asyncio.create_task(ask(turn)))
        if tasks:
            await asyncio.wait(tasks, timeout=max(0.0, load.until - time.monotonic()))
        cores = (time.process_time() - used) / max(time.monotonic() - began, 1e-9)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for turn in turns:
        _read(turn, chat_pb2.ChatEvent if load.api == "chat" else inference_pb2.GenerateEvent)
    return Answers(turns, cores)


async def _asker(load: Load, stack: AsyncExitStack) -> Callable[[Turn], Coroutine[None, None, None]]:
    """What asks for a turn, over connections that stand."""
    if load.api == "openai":
        message = {"role": "user", "content": TEXT}
        body = {"model": load.asked, "stream": True, "messages": [message], **load.fields}
        return OpenAIClient(load.target, load.headers, body, load.until).ask
    asks = [await _ask_of(load, stack) for _ in range(load.connections)]
    if len(asks) == 1:
        return asks[0]
    chosen = itertools.cycle(asks)

    async def ask(turn: Turn) -> None:
        await next(chosen)(turn)

    return ask


async def _ask_of(load: Load, stack: AsyncExitStack) -> Callable[[Turn], Coroutine[None, None, None]]:
    # A pool of its own: otherwise all channels to a target share one connection. Several addresses take turns.
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.lb_policy_name", "round_robin")]
    channel = await stack.enter_async_context(grpc.aio.insecure_channel(load.target, options=options))
    await channel.channel_ready()
    # Without what would deserialise the responses: see `_read`.
    if load.api == "chat":
        chats: Chats = channel.unary_stream(_CHAT, request_serializer=chat_pb2.ChatRequest.SerializeToString)
        return partial(_chat, chats, load.asked)
    serialise = inference_pb2.GenerateRequest.SerializeToString
    generate: Generate = channel.stream_stream(_GENERATE, request_serializer=serialise)
    return partial(_generate, generate, load)


async def _chat(chats: "Chats", profile: str, turn: Turn) -> None:
    request = chat_pb2.ChatRequest(profile=profile, messages=MESSAGES)
    await _note(chats(request, timeout=CALL_SECONDS), turn)


async def _generate(generate: "Generate", load: Load, turn: Turn) -> None:
    call = generate(timeout=CALL_SECONDS)
    sampling = generation_pb2.Sampling(max_tokens=load.max_tokens)
    opening = inference_pb2.GenerateOpen(model=load.asked, messages=MESSAGES, sampling=sampling)
    opening.options.update(load.options)
    await call.write(inference_pb2.GenerateRequest(open=opening))
    await _note(call, turn)


async def _note(events: AsyncIterable[bytes], turn: Turn) -> None:
    try:
        async for event in events:
            turn.events.append((time.monotonic(), event))
        turn.finished = time.monotonic()
    except grpc.aio.AioRpcError as error:
        turn.error, turn.failed = error.code().name, time.monotonic()


def _read(turn: Turn, kind: type[chat_pb2.ChatEvent | inference_pb2.GenerateEvent]) -> None:
    """What the messages of a turn say. Not while the load is on: reading them would take from what is measured."""
    for at, message in turn.events:
        event = kind.FromString(message)
        if event.HasField("delta"):
            turn.times.append(at)
            turn.tokens.append(event.delta.token_count)
        elif isinstance(event, chat_pb2.ChatEvent) and event.HasField("finished"):
            turn.held = event.finished.receipt.most_held_characters
    turn.events.clear()
