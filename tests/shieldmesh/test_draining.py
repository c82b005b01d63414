"""A server that stops: what runs may finish, what is left hears why, and nobody waits for those who only watch."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from shieldmesh import UnavailableError, calls, channels
from shieldmesh.draining import Background, drain
from shieldmesh.interceptors import INNER
from shieldmesh.interceptors.call import ServerIdentity
from shieldmesh.interceptors.server import MeshInterceptor
from shieldmesh.interceptors.stopping import Stopping
from shieldmesh.settings import ServiceSettings
from shieldmesh.v1 import chat_pb2, chat_pb2_grpc

from .serving import TIMEOUT, Chat

FOR_EVER = 600.0


@dataclass
class Served:
    """A server whose calls give one event, and another one when they are let go."""

    target: str
    let_go: asyncio.Event = field(default_factory=asyncio.Event)
    background: Background = field(default_factory=Background)
    not_serving: asyncio.Event = field(default_factory=asyncio.Event)
    stop: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep

    async def read(self, events: list[chat_pb2.ChatEvent]) -> None:
        """Reads a call to its end."""
        stub = chat_pb2_grpc.ChatServiceStub(channels.get(self.target))
        async with calls.stream(stub.Chat, chat_pb2.ChatRequest(), timeout=TIMEOUT) as stream:
            async for event in stream:
                events.append(event)  # noqa: PERF401  # what came before an error counts

    async def begun(self) -> "tuple[list[chat_pb2.ChatEvent], asyncio.Task[None]]":
        """A call of which the first event has come."""
        events: list[chat_pb2.ChatEvent] = []
        task = asyncio.create_task(self.read(events))
        async with asyncio.timeout(TIMEOUT):
            while not events:  # noqa: ASYNC110  # the reader only reads
                await asyncio.sleep(0.001)
        return events, task


@asynccontextmanager
async def serving(directory: Path) -> AsyncGenerator[Served]:
    """A server to be drained; `stop` does so with a grace."""
    served = Served(f"unix:{directory / 'service.sock'}")
    stopping = Stopping()
    around = MeshInterceptor(ServerIdentity("service", "service-1"), (*INNER, stopping.serve))
    server = grpc.aio.server(interceptors=[around])

    async def handle(request: chat_pb2.ChatRequest) -> AsyncGenerator[chat_pb2.ChatEvent]:
        del request
        yield chat_pb2.ChatEvent(sequence=1)
        await served.let_go.wait()
        yield chat_pb2.ChatEvent(sequence=2)

    async def not_serving() -> None:
        served.not_serving.set()

    async def stop(grace: float) -> None:
        settings = ServiceSettings(listen=served.target, drain_grace=grace)
        await drain(server, around, stopping, served.background, settings, not_serving=not_serving)

    served.stop = stop
    chat_pb2_grpc.add_ChatServiceServicer_to_server(Chat(handle), server)
    server.add_insecure_port(served.target)
    await server.start()
    try:
        yield served
    finally:
        await channels.close()
        await server.stop(None)


async def test_what_runs_may_finish(tmp_path: Path) -> None:
    """Within the grace calls give all that they have, and the server ends with the last one, not with the grace."""
    async with serving(tmp_path) as served:
        begun = [await served.begun() for _ in range(20)]
        draining = asyncio.create_task(served.stop(FOR_EVER))
        await asyncio.wait_for(served.not_serving.wait(), TIMEOUT)
        served.let_go.set()
        for events, call in begun:
            await asyncio.wait_for(call, TIMEOUT)
            assert [event.sequence for event in events] == [1, 2]
        await asyncio.wait_for(draining, TIMEOUT)


async def test_what_is_left_hears_why(tmp_path: Path) -> None:
    """Behind the grace a call ends with a typed error and its path; what it gave before has come."""
    async with serving(tmp_path) as served:
        events, call = await served.begun()
        await asyncio.wait_for(served.stop(0), TIMEOUT)
        with pytest.raises(UnavailableError) as cut:
            await call
    assert (cut.value.reason, [hop.service for hop in cut.value.hops]) == ("SERVICE_STOPPING", ["service"])
    assert [event.sequence for event in events] == [1]


class Errand:
    """Work without a call, for which calls may wait."""

    def __init__(self, told: asyncio.Event) -> None:
        self.done = asyncio.Event()
        self.told = told
        self.was_cut = False

    async def wait_idle(self) -> None:
        """See `shieldmesh.draining.Work`."""
        await self.done.wait()

    async def cut(self) -> None:
        """See `shieldmesh.draining.Work`."""
        self.was_cut = True
        self.told.set()


async def test_work_without_a_call_has_the_same_time(tmp_path: Path) -> None:
    """The server does not end before it."""
    async with serving(tmp_path) as served:
        errand = Errand(served.let_go)
        served.background.add(errand)
        draining = asyncio.create_task(served.stop(FOR_EVER))
        await asyncio.wait_for(served.not_serving.wait(), TIMEOUT)
        done, _ = await asyncio.wait([draining], timeout=0.05)
        assert not done
        errand.done.set()
        await asyncio.wait_for(draining, TIMEOUT)
    assert not errand.was_cut


async def test_who_waits_for_such_work_hears_its_end(tmp_path: Path) -> None:
    """It is cut before the calls are: they end as the work tells them to."""
    async with serving(tmp_path) as served:
        errand = Errand(served.let_go)
        served.background.add(errand)
        events, call = await served.begun()
        await asyncio.wait_for(served.stop(0), TIMEOUT)
        await call
    assert errand.was_cut
    assert [event.sequence for event in events] == [1, 2]
