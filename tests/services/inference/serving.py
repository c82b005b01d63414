"""The inference service in this process, on a Unix socket of its own, behind the mesh's own interceptors."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from services.inference.configuration import Configuration
from services.inference.registry import Registry, open_models
from services.inference.servicer import InferenceServicer
from shieldmesh import calls, channels
from shieldmesh.interceptors import INNER
from shieldmesh.interceptors.call import ServerIdentity
from shieldmesh.interceptors.server import MeshInterceptor
from shieldmesh.v1 import inference_pb2, inference_pb2_grpc, message_pb2

TIMEOUT = 120.0
"""Seconds until a call of a test is given up."""

MAX_CHARACTERS = 10_000

Generation: TypeAlias = "grpc.aio.StreamStreamCall[inference_pb2.GenerateRequest, inference_pb2.GenerateEvent]"
Stub: TypeAlias = "inference_pb2_grpc.InferenceServiceAsyncStub"  # exists for type checkers alone


@asynccontextmanager
async def serving(models: Registry | Configuration, directory: Path) -> AsyncGenerator[Stub, None]:
    """A stub of a server that has these models."""
    async with AsyncExitStack() as stack:
        if isinstance(models, Configuration):
            models = await stack.enter_async_context(open_models(models))
        identity = ServerIdentity("inference", "test", TIMEOUT)
        around = MeshInterceptor(identity, INNER)
        server = grpc.aio.server(interceptors=[around])
        servicer = InferenceServicer(models, max_characters=MAX_CHARACTERS)
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(servicer, server)
        target = f"unix:{directory / 'inference.sock'}"
        server.add_insecure_port(target)
        await server.start()
        try:
            yield inference_pb2_grpc.InferenceServiceStub(channels.get(target))
        finally:
            await channels.close()
            await server.stop(None)
            await around.wait_idle()


@asynccontextmanager
async def generating(
    stub: Stub, opening: inference_pb2.GenerateOpen, *, seconds: float = TIMEOUT
) -> AsyncGenerator[Generation, None]:
    """A running generation to read from, and to stop."""
    async with calls.bidi(stub.Generate, timeout=seconds) as generation:
        await generation.write(inference_pb2.GenerateRequest(open=opening))
        yield generation


async def eventually(condition: Callable[[], bool]) -> None:
    """Returns when the condition holds; fails after the time limit."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            if condition():
                return
            await asyncio.sleep(0.001)


def configuration(*models: dict[str, Any]) -> Configuration:
    """A configuration of replay models: name, options and limits of each."""
    return Configuration.model_validate({"models": [{"backend": "replay", **model} for model in models]})


def ask(model: str, text: str = "hello", **fields: Any) -> inference_pb2.GenerateOpen:
    """An opening with one user message."""
    return inference_pb2.GenerateOpen(model=model, messages=[user(text)], **fields)


def user(text: str) -> message_pb2.Message:
    """A user's message."""
    return message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.ContentPart(text=text)])
