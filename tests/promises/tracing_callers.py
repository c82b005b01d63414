"""Callers with tracing of their own, callers who go away, and a gateway that trusts them."""

import asyncio
import importlib
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import grpc
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import shieldmesh
from gateway.proxy import add_proxies
from shieldmesh import channels
from shieldmesh.interceptors import edge
from shieldmesh.interceptors.call import ServerIdentity
from shieldmesh.interceptors.server import MeshInterceptor
from shieldmesh.v1 import chat_pb2, chat_pb2_grpc, message_pb2

from .mesh import TIMEOUT, Mesh


@dataclass(frozen=True, slots=True)
class Theirs:
    """The tracing of a caller outside the mesh."""

    provider: TracerProvider
    exporter: InMemorySpanExporter


@contextmanager
def caller() -> Generator[Theirs]:
    provider, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    try:
        yield Theirs(provider, exporter)
    finally:
        provider.shutdown()


# What they export has no types.
INSTRUMENTATION: Final[Any] = importlib.import_module("opentelemetry.instrumentation.grpc")
GRPCEXT: Final[Any] = importlib.import_module("opentelemetry.instrumentation.grpc.grpcext")

UNSAMPLED: Final = trace.SpanContext(
    trace_id=0x0AF7651916CD43DD8448EB211C80319C, span_id=0xB7AD6B7169203331, is_remote=True
)


def header(context: trace.SpanContext) -> str:
    ids = f"{trace.format_trace_id(context.trace_id)}-{trace.format_span_id(context.span_id)}"
    return f"00-{ids}-{context.trace_flags:02x}"


def asking(text: str = "hello") -> chat_pb2.ChatRequest:
    part = message_pb2.ContentPart(text=text)
    return chat_pb2.ChatRequest(messages=[message_pb2.Message(role=message_pb2.ROLE_USER, parts=[part])])


async def aio_caller(target: str, theirs: Theirs) -> None:
    interceptors = INSTRUMENTATION.aio_client_interceptors(tracer_provider=theirs.provider)
    async with grpc.aio.insecure_channel(target, interceptors=interceptors) as channel:
        events = [event async for event in chat_pb2_grpc.ChatServiceStub(channel).Chat(asking(), timeout=TIMEOUT)]
    assert events[-1].HasField("finished")


async def sync_caller(target: str, theirs: Theirs) -> None:
    def talk() -> None:
        with grpc.insecure_channel(target) as plain:
            channel = GRPCEXT.intercept_channel(plain, INSTRUMENTATION.client_interceptor(theirs.provider))
            *_, last = chat_pb2_grpc.ChatServiceStub(channel).Chat(asking(), timeout=TIMEOUT)
            assert last.HasField("finished")

    await asyncio.to_thread(talk)


async def header_caller(target: str, _theirs: Theirs) -> None:
    await plain_caller(target, (("traceparent", header(UNSAMPLED)),))


async def plain_caller(target: str, metadata: tuple[tuple[str, str], ...]) -> list[chat_pb2.ChatEvent]:
    async with grpc.aio.insecure_channel(target) as channel:
        stub: Any = chat_pb2_grpc.ChatServiceStub(channel)
        return [event async for event in stub.Chat(asking(), timeout=TIMEOUT, metadata=metadata)]


CALLERS: Final[dict[str, Callable[[str, Theirs], Any]]] = {
    "aio": aio_caller,
    "sync": sync_caller,
    "header": header_caller,
}


async def give_up(target: str, how: str) -> None:
    """Reads the first text of a long turn and goes away."""
    if how == "left":
        async with shieldmesh.connect(target) as client:
            async for event in client.chat("one two three four " * 20, timeout=TIMEOUT):
                if isinstance(event, shieldmesh.Delta):
                    return
    async with grpc.aio.insecure_channel(target) as channel:
        stub: Any = chat_pb2_grpc.ChatServiceStub(channel)
        call = stub.Chat(asking("one two three four " * 20), timeout=TIMEOUT)
        while not (await call.read()).HasField("delta"):
            pass
        if how == "cancelled":
            call.cancel()
        del call


@asynccontextmanager
async def trusting_gateway(mesh: Mesh) -> AsyncGenerator[str]:
    """A second gateway, one with trust_trace; where it is."""
    around = MeshInterceptor(ServerIdentity("gateway", "gateway-2", TIMEOUT), edge(trust_trace=True))
    server, target = grpc.aio.server(interceptors=[around]), f"unix:{mesh.directory / 'trusting.sock'}"
    add_proxies(server, channels.get(mesh.target("orchestrator")))
    server.add_insecure_port(target)
    await server.start()
    try:
        yield target
    finally:
        await server.stop(None)
        await around.wait_idle()
