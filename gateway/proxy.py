"""ChatService for the world, passed on to the orchestrator: requests are read, events are passed through unread."""

from collections.abc import AsyncGenerator, Callable
from typing import TypeAlias

import grpc

from shieldmesh import calls
from shieldmesh.v1 import chat_pb2

SERVICE = chat_pb2.DESCRIPTOR.services_by_name["ChatService"]


Forward: TypeAlias = "Callable[[chat_pb2.ChatRequest, object], AsyncGenerator[bytes]]"
ChatCallable: TypeAlias = "grpc.aio.UnaryStreamMultiCallable[chat_pb2.ChatRequest, bytes]"


def add_chat_proxy(server: grpc.aio.Server, upstream: grpc.aio.Channel) -> str:
    """Serves ChatService by calling it upstream; the service's full name.

    The interceptors have minted the call's identity by then, and the channel sends that on and nothing else.
    """
    # Without a deserializer or serializer the events stay bytes: most of a proxy's work is not to look.
    chat: ChatCallable = upstream.unary_stream(
        f"/{SERVICE.full_name}/Chat", request_serializer=chat_pb2.ChatRequest.SerializeToString
    )
    handler: grpc.RpcMethodHandler[chat_pb2.ChatRequest, bytes] = grpc.unary_stream_rpc_method_handler(
        forward(chat), request_deserializer=chat_pb2.ChatRequest.FromString
    )
    server.add_registered_method_handlers(SERVICE.full_name, {"Chat": handler})
    return SERVICE.full_name


def forward(rpc: "ChatCallable") -> "Forward":
    """A handler that answers with what `rpc` answers."""

    async def handle(request: chat_pb2.ChatRequest, _context: object) -> AsyncGenerator[bytes]:
        async with calls.stream(rpc, request) as events:
            async for event in events:
                yield event

    return handle
