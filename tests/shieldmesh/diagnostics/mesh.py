"""Four services in this process, each with nothing but its diagnostics, joined by Unix sockets; parts can be faulty."""

import asyncio
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import grpc
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from shieldmesh import channels, context, telemetry
from shieldmesh.diagnostics import downstream
from shieldmesh.diagnostics.downstream import Downstream, Stub
from shieldmesh.diagnostics.memory import SpanMemory
from shieldmesh.diagnostics.servicer import DiagnosticsServicer
from shieldmesh.interceptors import INNER, edge
from shieldmesh.interceptors.call import ServerIdentity, ServerInterceptor
from shieldmesh.interceptors.server import MeshInterceptor
from shieldmesh.v1.diagnostics_pb2 import ProbeEvent, ProbeRequest
from shieldmesh.v1.diagnostics_pb2_grpc import DiagnosticsServiceStub, add_DiagnosticsServiceServicer_to_server

TIMEOUT: Final = 60.0
"""Seconds until a call of a test is given up."""
CALLS: Final = {"gateway": ("orchestrator",), "orchestrator": ("shield", "inference"), "shield": (), "inference": ()}


class Careless(Downstream):
    """Calls the next services without sending anything on: no identity, no trace, no deadline."""

    def _stub(self, name: str) -> "Stub":
        return DiagnosticsServiceStub(grpc.aio.insecure_channel(self._targets[name]))


class Generous(Downstream):
    """Gives the next services more time than it has."""

    async def _pump(self, name: str, request: ProbeRequest, events: "asyncio.Queue[ProbeEvent | None]") -> None:
        with context.use(replace(context.current(), deadline=time.monotonic() + 2 * TIMEOUT)):
            await super()._pump(name, request, events)


class Deaf(Downstream):
    """Lets the next services work on when its own caller has cancelled."""

    tasks: Final[set[asyncio.Task[None]]] = set()
    """What works on, to be ended by the test."""

    async def probe(self, request: ProbeRequest) -> AsyncGenerator[ProbeEvent]:
        events: asyncio.Queue[ProbeEvent] = asyncio.Queue()

        async def read() -> None:
            async for event in super(Deaf, self).probe(request):
                await events.put(event)

        self.tasks.add(asyncio.create_task(read()))
        for _ in range(2):
            yield await events.get()


@dataclass(frozen=True)
class Faults:
    """What is wrong, by service."""

    interceptors: Mapping[str, Sequence[ServerInterceptor]] = field(
        default_factory=dict[str, Sequence[ServerInterceptor]]
    )
    downstream: Mapping[str, type[Downstream]] = field(default_factory=dict[str, type[Downstream]])
    missing: Sequence[str] = ()
    """Services that are not there."""
    silent: Sequence[str] = ()
    """Services that are there and know no diagnostics."""


@asynccontextmanager
async def serving(
    faults: Faults | None = None, memories: Mapping[str, SpanMemory] | None = None, *, traced: bool = True
) -> AsyncGenerator[Mapping[str, str]]:
    """The targets of the services, by name."""
    faults, memories = faults or Faults(), memories or {}
    with tempfile.TemporaryDirectory(prefix="sm-") as directory:
        targets = {name: f"unix:{Path(directory) / name}.sock" for name in CALLS}
        async with AsyncExitStack() as stack:
            # None of these services hangs: a late answer is a busy machine's.
            stack.enter_context(pytest.MonkeyPatch.context()).setattr(downstream, "PATIENCE", TIMEOUT)
            if traced:
                providers = TracerProvider(shutdown_on_exit=False), MeterProvider(shutdown_on_exit=False)
                stack.enter_context(telemetry.recording(*providers))
                for memory in memories.values():
                    providers[0].add_span_processor(memory)
            for name, callees in CALLS.items():
                if name not in faults.missing:
                    kind = faults.downstream.get(name, Downstream)
                    further = kind(name, {callee: targets[callee] for callee in callees})
                    around = faults.interceptors.get(name, edge() if name == "gateway" else INNER)
                    known = name not in faults.silent
                    service = _serving(name, targets[name], around, memories.get(name), further if known else None)
                    await stack.enter_async_context(service)
            stack.push_async_callback(channels.close)
            yield targets
            for task in Deaf.tasks:
                task.cancel()
            await asyncio.gather(*Deaf.tasks, return_exceptions=True)
            Deaf.tasks.clear()


def stub(target: str) -> "Stub":
    """The diagnostics of one service."""
    return DiagnosticsServiceStub(channels.get(target))


@asynccontextmanager
async def _serving(
    name: str,
    target: str,
    interceptors: Sequence[ServerInterceptor],
    memory: SpanMemory | None,
    further: Downstream | None,
) -> AsyncGenerator[None]:
    identity = ServerIdentity(name, f"{name}-1", TIMEOUT)
    around = MeshInterceptor(identity, interceptors)
    server = grpc.aio.server(interceptors=[around])
    if further is not None:
        servicer = DiagnosticsServicer(identity, memory or SpanMemory(), further)
        add_DiagnosticsServiceServicer_to_server(servicer, server)
    server.add_insecure_port(target)
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)
        await around.wait_idle()
