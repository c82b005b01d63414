"""A chat service in this process whose handler is any generator, behind interceptors, on a Unix socket."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import grpc

from shieldmesh import channels
from shieldmesh.interceptors import INNER
from shieldmesh.interceptors.call import ServerIdentity, ServerInterceptor
from shieldmesh.interceptors.server import MeshInterceptor
from shieldmesh.v1 import chat_pb2, chat_pb2_grpc

TIMEOUT = 60.0
"""Seconds until a call of a test is given up."""

Handler = Callable[[chat_pb2.ChatRequest], AsyncGenerator[chat_pb2.ChatEvent]]
Stub: TypeAlias = "chat_pb2_grpc.ChatServiceAsyncStub"  # exists for type checkers alone


class OnlyChat(chat_pb2_grpc.ChatServiceServicer):
    """A chat service without the methods for turns that run."""

    def Resume(  # noqa: N802  # the contract's name
        self, request: chat_pb2.ResumeRequest, context: object
    ) -> AsyncGenerator[chat_pb2.ChatEvent]:
        raise NotImplementedError

    async def GetTurn(  # noqa: N802  # the contract's name
        self, request: chat_pb2.GetTurnRequest, context: object
    ) -> chat_pb2.GetTurnResponse:
        raise NotImplementedError

    async def CancelTurn(  # noqa: N802  # the contract's name
        self, request: chat_pb2.CancelTurnRequest, context: object
    ) -> chat_pb2.CancelTurnResponse:
        raise NotImplementedError


class Chat(OnlyChat):
    """Does what the handler does."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    def Chat(  # noqa: N802  # the contract's name
        self, request: chat_pb2.ChatRequest, context: object
    ) -> AsyncGenerator[chat_pb2.ChatEvent]:
        del context
        return self._handler(request)


@asynccontextmanager
async def listening(
    handler: Handler,
    directory: Path,
    *,
    name: str = "service",
    interceptors: Sequence[ServerInterceptor] = INNER,
    call_cap: float = TIMEOUT,
) -> AsyncGenerator[str]:
    """The target of a server with this handler."""
    around = MeshInterceptor(ServerIdentity(name, "test", call_cap), interceptors)
    server = grpc.aio.server(interceptors=[around])
    chat_pb2_grpc.add_ChatServiceServicer_to_server(Chat(handler), server)
    target = f"unix:{directory / name}.sock"
    server.add_insecure_port(target)
    await server.start()
    try:
        yield target
    finally:
        await channels.close()
        await server.stop(None)
        await around.wait_idle()


def stub_of(target: str) -> Stub:
    """A stub as a service of the mesh has it, whose calls carry the context."""
    return chat_pb2_grpc.ChatServiceStub(channels.get(target))


def event(sequence: int = 1) -> chat_pb2.ChatEvent:
    """Some event."""
    return chat_pb2.ChatEvent(sequence=sequence)
