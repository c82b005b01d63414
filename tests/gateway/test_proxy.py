"""The gateway, between a client and a chat service that is a script."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from gateway.proxy import add_proxies
from shieldmesh import calls, channels, context, errors
from shieldmesh.context import RequestContext
from shieldmesh.errors import NotFoundError, UnavailableError
from shieldmesh.interceptors import EDGE
from shieldmesh.interceptors.call import ServerIdentity
from shieldmesh.interceptors.server import MeshInterceptor
from shieldmesh.v1 import chat_pb2, chat_pb2_grpc, generation_pb2
from tests.shieldmesh.serving import TIMEOUT, event, listening, stub_of

REQUEST = chat_pb2.ChatRequest(profile="any")
Events = AsyncGenerator[chat_pb2.ChatEvent]


@asynccontextmanager
async def gateway(upstream: str, directory: Path) -> AsyncGenerator[str]:
    """The target of a gateway before `upstream`."""
    around = MeshInterceptor(ServerIdentity("gateway", "test", 60.0), EDGE)
    server = grpc.aio.server(interceptors=[around])
    assert add_proxies(server, channels.get(upstream)) == ["shieldmesh.v1.ChatService", "shieldmesh.v1.SessionService"]
    target = f"unix:{directory}/gateway.sock"
    server.add_insecure_port(target)
    await server.start()
    try:
        yield target
    finally:
        await server.stop(None)
        await around.wait_idle()


async def test_requests_and_events_pass_unchanged(tmp_path: Path) -> None:
    """What the orchestrator says is what the client hears, and the request arrives as it was."""
    said = [
        chat_pb2.ChatEvent(sequence=1, delta=generation_pb2.Delta(text="ä, 🙂")),
        chat_pb2.ChatEvent(sequence=2, finished=chat_pb2.TurnFinished()),
    ]
    asked: list[chat_pb2.ChatRequest] = []

    async def chat(request: chat_pb2.ChatRequest) -> Events:
        asked.append(request)
        for each in said:
            yield each

    async with (
        listening(chat, tmp_path) as upstream,
        gateway(upstream, tmp_path) as target,
        calls.stream(stub_of(target).Chat, REQUEST, timeout=TIMEOUT) as events,
    ):
        heard = [each async for each in events]
    assert heard == said
    assert asked == [REQUEST]


async def test_it_mints_the_identity_that_travels_on(tmp_path: Path) -> None:
    """Behind the gateway a turn has an id of the gateway's making, and no tenant or profile that a client claimed."""
    seen: list[RequestContext] = []

    async def chat(request: chat_pb2.ChatRequest) -> Events:
        del request
        seen.append(context.current())
        yield event()

    claimed = RequestContext("s-1", "mine", "root", "open")
    async with listening(chat, tmp_path) as upstream, gateway(upstream, tmp_path) as target:
        with context.use(claimed):
            async with calls.stream(stub_of(target).Chat, REQUEST, timeout=TIMEOUT) as events:
                await events.read()
    (there,) = seen
    assert there.session_id == "s-1"
    assert there.request_id not in {"", "mine"}
    assert (there.tenant_id, there.profile) == ("", "")


async def test_errors_pass_with_the_path(tmp_path: Path) -> None:
    """A typed error of the orchestrator stays what it is; the gateway puts itself before it."""

    async def chat(request: chat_pb2.ChatRequest) -> Events:
        del request
        yield event()
        raise NotFoundError("no such profile", field="profile", reason="PROFILE_NOT_FOUND")

    async with listening(chat, tmp_path, name="orchestrator") as upstream, gateway(upstream, tmp_path) as target:
        with pytest.raises(NotFoundError) as failure:
            async with calls.stream(stub_of(target).Chat, REQUEST, timeout=TIMEOUT) as events:
                _ = [each async for each in events]
    assert (failure.value.field, failure.value.reason) == ("profile", "PROFILE_NOT_FOUND")
    assert [hop.service for hop in failure.value.hops] == ["gateway", "orchestrator"]


async def test_without_an_orchestrator(tmp_path: Path) -> None:
    """The client hears that the orchestrator cannot be reached, and not where it should be."""
    async with (
        gateway(f"unix:{tmp_path}/nobody.sock", tmp_path) as target,
        grpc.aio.insecure_channel(target) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await chat_pb2_grpc.ChatServiceStub(channel).Chat(REQUEST, timeout=TIMEOUT).read()
        await channels.close()
    error = errors.from_rpc_error(failure.value)
    assert type(error) is UnavailableError
    assert [hop.service for hop in error.hops] == ["gateway", "orchestrator"]
    assert "nobody.sock" not in str(error)


async def test_a_client_that_leaves_ends_the_call_behind(tmp_path: Path) -> None:
    """Cancelling at the gateway cancels at the orchestrator."""
    ended = asyncio.Event()

    async def chat(request: chat_pb2.ChatRequest) -> Events:
        del request
        try:
            yield event()
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with listening(chat, tmp_path, call_cap=60.0) as upstream, gateway(upstream, tmp_path) as target:
        async with calls.stream(stub_of(target).Chat, REQUEST, timeout=60.0) as events:
            await events.read()
        await asyncio.wait_for(ended.wait(), TIMEOUT)
