"""A gateway whose connections break as it is told to, over real gRPC on a Unix socket."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from shieldmesh import errors
from shieldmesh.errors import Hop, MeshError
from shieldmesh.v1 import chat_pb2, chat_pb2_grpc
from tests.shieldmesh.serving import OnlyChat

from .scripted import delta, finished, started

Context = grpc.aio.ServicerContext[Any, Any]
Failure = grpc.StatusCode | MeshError
"""How a call ends: a status as a connection that breaks gives it, or an error of the mesh."""


@dataclass
class FlakyChat(OnlyChat):
    """One turn, of which each call gives so many events and then fails, until one of them gives all that are left."""

    failures: list[tuple[int, Failure]] = field(default_factory=list[tuple[int, Failure]])
    events: list[chat_pb2.ChatEvent] = field(default_factory=lambda: turn(10))
    wait: bool = False
    """Whether the call that does not fail waits for a cancellation before the last event."""
    asked: list[chat_pb2.ChatRequest | int] = field(default_factory=list[chat_pb2.ChatRequest | int])
    """The requests of Chat, and the sequence numbers of Resume, in order."""
    sessions: list[str] = field(default_factory=list[str])
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by CancelTurn."""

    async def Chat(  # noqa: N802  # the contract's name
        self, request: chat_pb2.ChatRequest, context: Context
    ) -> AsyncIterator[chat_pb2.ChatEvent]:
        self.asked.append(request)
        async for event in self._after(0, context):
            yield event

    async def Resume(  # noqa: N802  # the contract's name
        self, request: chat_pb2.ResumeRequest, context: Any
    ) -> AsyncGenerator[chat_pb2.ChatEvent]:
        assert request.turn_id == "turn-1"
        self.asked.append(request.after_sequence)
        async for event in self._after(request.after_sequence, context):
            yield event

    async def CancelTurn(  # noqa: N802  # the contract's name
        self, request: chat_pb2.CancelTurnRequest, context: object
    ) -> chat_pb2.CancelTurnResponse:
        del context
        assert request.turn_id == "turn-1"
        self.cancelled.set()
        return chat_pb2.CancelTurnResponse()

    async def _after(self, after: int, context: Context) -> AsyncGenerator[chat_pb2.ChatEvent]:
        session = str(dict(context.invocation_metadata() or ()).get("x-session-id", ""))
        self.sessions.append(session)
        number, failure = self.failures.pop(0) if self.failures else (len(self.events), None)
        for event in self.events[after : after + number]:
            if self.wait and event.HasField("finished"):
                await asyncio.Event().wait()
            yield event
        if isinstance(failure, MeshError):
            details = errors.to_status(failure).SerializeToString()
            await context.abort(failure.code, "", ((errors.STATUS_DETAILS_KEY, details),))
        elif failure is not None:
            await context.abort(failure)


@asynccontextmanager
async def serving(chat: FlakyChat) -> AsyncGenerator[str]:
    """Serves `chat`; the value is its URL."""
    server = grpc.aio.server()
    chat_pb2_grpc.add_ChatServiceServicer_to_server(chat, server)
    with tempfile.TemporaryDirectory(prefix="sm-") as directory:
        url = f"unix:{Path(directory) / 'mesh.sock'}"
        server.add_insecure_port(url)
        await server.start()
        try:
            yield url
        finally:
            await server.stop(None)


def turn(
    length: int, disconnect: chat_pb2.Disconnect.ValueType = chat_pb2.DISCONNECT_CANCEL, grace: float = 0
) -> list[chat_pb2.ChatEvent]:
    """A whole turn of so many events."""
    first = started()
    first.started.disconnect = disconnect
    first.started.reconnect_grace.CopyFrom(errors.duration(grace))
    return [first, *(delta(number, f"{number} ") for number in range(2, length)), finished(length)]


def at(error: MeshError, *services: str) -> MeshError:
    """The error as these services handed it on; one that begins with "-" was called and never answered."""
    error.hops = tuple(Hop(name.removeprefix("-"), "Chat", "" if name.startswith("-") else "i") for name in services)
    return error
