"""Parts of a mesh that hang, block or fail where the real ones do not."""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import grpc

from services.inference.admission import Admission
from services.inference.backend import Backend, GenerationRequest, Output, Step, Usage
from services.inference.registry import Registry, ServedModel
from services.inference.replay import ReplayBackend, ReplayOptions
from shieldmesh import context
from shieldmesh.v1 import shield_pb2, shield_pb2_grpc

from .mesh import OpenService


class HangingShields(shield_pb2_grpc.ShieldServiceServicer):
    """Shields that never come to a decision.

    Attributes:
        inspecting: Inspections of either kind that hang now.
    """

    def __init__(self) -> None:
        self.inspecting = 0

    async def Inspect(  # noqa: N802  # the contract's name
        self, request: shield_pb2.InspectRequest, context: object
    ) -> shield_pb2.InspectResponse:
        del request, context
        await self._hang()
        return shield_pb2.InspectResponse()

    async def InspectStream(  # noqa: N802  # the contract's name
        self, request_iterator: AsyncIterator[shield_pb2.InspectStreamRequest], context: object
    ) -> AsyncGenerator[shield_pb2.InspectStreamResponse]:
        del request_iterator, context
        yield shield_pb2.InspectStreamResponse(opened=shield_pb2.InspectOpened())
        await self._hang()

    async def ListShields(  # noqa: N802  # the contract's name
        self, request: shield_pb2.ListShieldsRequest, context: object
    ) -> shield_pb2.ListShieldsResponse:
        del request, context
        return shield_pb2.ListShieldsResponse()

    async def _hang(self) -> None:
        self.inspecting += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.inspecting -= 1


def shields(servicer: shield_pb2_grpc.ShieldServiceServicer) -> OpenService:
    """A shield service of this servicer."""

    @asynccontextmanager
    async def opener(server: grpc.aio.Server) -> AsyncGenerator[None]:
        shield_pb2_grpc.add_ShieldServiceServicer_to_server(servicer, server)
        yield

    return opener


class ThreadBackend:
    """An engine whose every token takes a thread; from the third on, the thread blocks until it is let go.

    Attributes:
        blocked: Set when a thread blocks.
        let_go: Lets the blocked threads go on.
    """

    def __init__(self) -> None:
        self.context_window = 0
        self.generated_tokens = 0
        self.blocked = asyncio.Event()
        self.let_go = threading.Event()

    def generate(self, request: GenerationRequest) -> "ThreadGeneration":
        """See `services.inference.backend.Backend`."""
        del request
        return ThreadGeneration(self)

    async def close(self) -> None:
        """See `services.inference.backend.Backend`."""


class ThreadGeneration:
    """Endless output of a `ThreadBackend`."""

    def __init__(self, backend: ThreadBackend) -> None:
        self._backend = backend
        self._sent = 0
        self._stopped = asyncio.Event()

    @property
    def usage(self) -> Usage:
        """See `services.inference.backend.Generation`."""
        return Usage(completion=self._sent)

    async def batches(self) -> AsyncGenerator[Sequence[Step]]:
        """See `services.inference.backend.Generation`."""
        while not self._stopped.is_set():
            if self._sent == 2:
                self._backend.blocked.set()
                await self._unless_stopped(context.run_in_thread(self._backend.let_go.wait))
                continue
            text = await context.run_in_thread(lambda: f" {context.current().session_id}")
            self._sent += 1
            self._backend.generated_tokens += 1
            yield [Output(text=text, token_count=1)]

    def stop(self) -> None:
        """See `services.inference.backend.Generation`."""
        self._stopped.set()

    async def _unless_stopped(self, work: Any) -> None:
        working, stopped = asyncio.ensure_future(work), asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait([working, stopped], return_when=asyncio.FIRST_COMPLETED)
        finally:
            working.cancel()
            stopped.cancel()
            await asyncio.wait([working, stopped])


def registry(**backends: Backend) -> Registry:
    """Models of these backends by name, with room for everybody, and `echo`."""
    backends = {"echo": ReplayBackend(ReplayOptions(echo=True)), **backends}
    places = partial(Admission, max_running=1024, max_waiting=0)
    return Registry({name: ServedModel(name, "fake", backend, places(name)) for name, backend in backends.items()})
