"""The public services, passed on to the orchestrator: requests are read, responses are passed through unread."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Final, TypeAlias

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from shieldmesh import calls
from shieldmesh.v1 import chat_pb2, session_pb2

SERVICES: Final[tuple[ServiceDescriptor, ...]] = (
    chat_pb2.DESCRIPTOR.services_by_name["ChatService"],
    session_pb2.DESCRIPTOR.services_by_name["SessionService"],
)
"""What the world may call."""
STREAMS: Final = tuple(method for service in SERVICES for method in service.methods if method.server_streaming)
"""What of that is answered with a stream."""

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, bytes]"  # Any: requests differ per method
Stream: TypeAlias = "grpc.aio.UnaryStreamMultiCallable[Message, bytes]"
Unary: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[Message, bytes]"


def add_proxies(server: grpc.aio.Server, upstream: grpc.aio.Channel) -> list[str]:
    """Serves the public services by calling them upstream; their full names.

    The interceptors have minted the call's identity by then, and the channel sends that on and nothing else.
    """
    # Without a deserializer or serializer the responses stay bytes: most of a proxy's work is not to look.
    for service in SERVICES:
        handlers = {method.name: _handler(method, upstream) for method in service.methods}
        server.add_registered_method_handlers(service.full_name, handlers)
    return [service.full_name for service in SERVICES]


def _handler(method: MethodDescriptor, upstream: grpc.aio.Channel) -> "Handler":
    kind: type[Message] = GetMessageClass(method.input_type)
    if method.server_streaming:
        stream: Stream = upstream.unary_stream(f"/{path(method)}", request_serializer=kind.SerializeToString)
        return grpc.unary_stream_rpc_method_handler(forward_stream(stream), request_deserializer=kind.FromString)
    unary: Unary = upstream.unary_unary(f"/{path(method)}", request_serializer=kind.SerializeToString)
    return grpc.unary_unary_rpc_method_handler(forward(unary), request_deserializer=kind.FromString)


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


def path(method: MethodDescriptor) -> str:
    """A method's full name: "shieldmesh.v1.ChatService/Chat"."""
    return f"{method.containing_service.full_name}/{method.name}"
