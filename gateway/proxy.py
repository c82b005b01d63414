"""ChatService for the world, passed on to the orchestrator: requests are read, responses are passed through unread."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Final, TypeAlias

import grpc
from google.protobuf.message import Message

from shieldmesh import calls
from shieldmesh.v1 import chat_pb2

SERVICE = chat_pb2.DESCRIPTOR.services_by_name["ChatService"]

STREAMS: Final[dict[str, type[Message]]] = {"Chat": chat_pb2.ChatRequest, "Resume": chat_pb2.ResumeRequest}
"""The methods that are answered with a stream, and what they are asked."""
UNARIES: Final[dict[str, type[Message]]] = {
    "GetTurn": chat_pb2.GetTurnRequest,
    "CancelTurn": chat_pb2.CancelTurnRequest,
}
"""The other methods."""

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, bytes]"  # Any: requests differ per method
Stream: TypeAlias = "grpc.aio.UnaryStreamMultiCallable[Message, bytes]"
Unary: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[Message, bytes]"


def add_chat_proxy(server: grpc.aio.Server, upstream: grpc.aio.Channel) -> str:
    """Serves ChatService by calling it upstream; the service's full name.

    The interceptors have minted the call's identity by then, and the channel sends that on and nothing else.
    """
    # Without a deserializer or serializer the responses stay bytes: most of a proxy's work is not to look.
    handlers: dict[str, Handler] = {}
    for name, kind in STREAMS.items():
        stream: Stream = upstream.unary_stream(_path(name), request_serializer=kind.SerializeToString)
        handlers[name] = grpc.unary_stream_rpc_method_handler(
            forward_stream(stream), request_deserializer=kind.FromString
        )
    for name, kind in UNARIES.items():
        unary: Unary = upstream.unary_unary(_path(name), request_serializer=kind.SerializeToString)
        handlers[name] = grpc.unary_unary_rpc_method_handler(forward(unary), request_deserializer=kind.FromString)
    server.add_registered_method_handlers(SERVICE.full_name, handlers)
    return SERVICE.full_name


def forward_stream(rpc: Stream) -> Callable[[Message, object], AsyncGenerator[bytes]]:
    """A handler that answers with the stream that `rpc` answers with."""

    async def handle(request: Message, _context: object) -> AsyncGenerator[bytes]:
        async with calls.stream(rpc, request) as events:
            async for event in events:
                yield event

    return handle


def forward(rpc: Unary) -> Callable[[Message, object], Awaitable[bytes]]:
    """A handler that answers with what `rpc` answers."""

    async def handle(request: Message, _context: object) -> bytes:
        return await calls.unary(rpc, request)

    return handle


def _path(method: str) -> str:
    return f"/{SERVICE.full_name}/{method}"
