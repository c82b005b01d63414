"""Calls that end with their block, and fail typed."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import cast

import grpc
import pytest

from shieldmesh import calls, channels
from shieldmesh.errors import MeshError, ResourceExhaustedError, UnavailableError
from shieldmesh.interceptors import INNER
from shieldmesh.interceptors.call import ServerIdentity
from shieldmesh.interceptors.server import MeshInterceptor
from shieldmesh.v1 import chat_pb2, shield_pb2, shield_pb2_grpc
from tests.shieldmesh.serving import TIMEOUT, event, listening, stub_of

REQUEST = chat_pb2.ChatRequest()
LONG = 60.0
"""Seconds for calls that must end long before: not by their time limit."""


async def test_leaving_the_block_cancels_the_server(tmp_path: Path) -> None:
    """A reader that breaks out of the loop ends the handler, which waits for nothing else."""
    ended = asyncio.Event()

    async def endless(request: chat_pb2.ChatRequest) -> AsyncGenerator[chat_pb2.ChatEvent]:
        del request
        try:
            yield event()
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with listening(endless, tmp_path, call_cap=LONG) as target:
        async with calls.stream(stub_of(target).Chat, REQUEST, timeout=LONG) as events:
            async for _ in events:
                break
        await asyncio.wait_for(ended.wait(), TIMEOUT)


async def test_an_error_in_the_block_cancels_the_server_too(tmp_path: Path) -> None:
    """Whatever ends the block, nothing runs on; the block's own error comes out as it is."""
    ended = asyncio.Event()

    async def endless(request: chat_pb2.ChatRequest) -> AsyncGenerator[chat_pb2.ChatEvent]:
        del request
        try:
            yield event()
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with listening(endless, tmp_path, call_cap=LONG) as target:
        with pytest.raises(KeyError):  # noqa: PT012  # what the block raises is what is tested
            async with calls.stream(stub_of(target).Chat, REQUEST, timeout=LONG) as events:
                await events.read()
                raise KeyError
        await asyncio.wait_for(ended.wait(), TIMEOUT)


async def test_a_service_that_is_not_there(tmp_path: Path) -> None:
    """It is a typed error that names the service which was called, and says nothing of addresses."""
    target = f"unix:{tmp_path}/nobody.sock"
    try:
        with pytest.raises(UnavailableError) as failure:
            async with calls.stream(stub_of(target).Chat, REQUEST, timeout=TIMEOUT) as events:
                await events.read()
    finally:
        await channels.close()
    assert [hop.service for hop in failure.value.hops] == ["orchestrator"]
    assert failure.value.hops[0].method == "shieldmesh.v1.ChatService/Chat"
    assert str(tmp_path) not in str(failure.value)


class Shields(shield_pb2_grpc.ShieldServiceServicer):
    """Answers as many texts as it is told to, then fails."""

    def __init__(self, answers: int) -> None:
        self._answers = answers

    async def InspectStream(  # noqa: N802  # the contract's name
        self, request_iterator: AsyncIterator[shield_pb2.InspectStreamRequest], context: object
    ) -> AsyncGenerator[shield_pb2.InspectStreamResponse]:
        del context
        for _ in range(self._answers):
            await anext(aiter(request_iterator))
            yield shield_pb2.InspectStreamResponse()
        raise ResourceExhaustedError("no more", retry_after=3.0)

    async def Inspect(  # noqa: N802  # the contract's name
        self, request: shield_pb2.InspectRequest, context: object
    ) -> shield_pb2.InspectResponse:
        del request, context
        raise ResourceExhaustedError("no more", retry_after=3.0)

    async def ListShields(  # noqa: N802  # the contract's name
        self, request: shield_pb2.ListShieldsRequest, context: object
    ) -> shield_pb2.ListShieldsResponse:
        raise NotImplementedError


@pytest.mark.parametrize("answers", [0, 1, 3])
async def test_a_reader_hears_how_the_call_really_ended(tmp_path: Path, answers: int) -> None:
    """A write that fails because the server has ended the call does not take the place of the server's own error."""
    async with shields(answers, tmp_path) as stub:
        with pytest.raises(BaseExceptionGroup) as failure:  # noqa: PT012  # the group is what is tested
            async with calls.bidi(stub.InspectStream, timeout=TIMEOUT) as call, asyncio.TaskGroup() as tasks:
                tasks.create_task(read(call))
                with suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
                    while True:
                        await call.write(shield_pb2.InspectStreamRequest())
    (error,) = leaves(failure.value)
    assert isinstance(error, ResourceExhaustedError)
    assert error.retry_after == 3.0
    assert [hop.service for hop in error.hops] == ["shield"]


async def test_a_writer_hears_that_the_call_is_over(tmp_path: Path) -> None:
    """A failed write is the server's own error where that is known, and never INTERNAL: the service just went away."""
    async with shields(1, tmp_path) as stub:
        with pytest.raises((ResourceExhaustedError, UnavailableError, asyncio.InvalidStateError)) as failure:  # noqa: PT012
            async with calls.bidi(stub.InspectStream, timeout=TIMEOUT) as call:
                while True:
                    await call.write(shield_pb2.InspectStreamRequest())
    if isinstance(failure.value, MeshError):
        assert [hop.service for hop in failure.value.hops] == ["shield"]


async def test_a_unary_call_fails_typed(tmp_path: Path) -> None:
    """The error of the server is the error of the call."""
    async with shields(0, tmp_path) as stub:
        with pytest.raises(ResourceExhaustedError, match="no more"):
            await calls.unary(stub.Inspect, shield_pb2.InspectRequest(), timeout=TIMEOUT)


class shields:  # noqa: N801  # used as a function
    """A stub of such shields."""

    def __init__(self, answers: int, directory: Path) -> None:
        self._around = MeshInterceptor(ServerIdentity("shield", "test", TIMEOUT), INNER)
        self._server = grpc.aio.server(interceptors=[self._around])
        shield_pb2_grpc.add_ShieldServiceServicer_to_server(Shields(answers), self._server)
        self._target = f"unix:{directory}/shield.sock"
        self._server.add_insecure_port(self._target)

    async def __aenter__(self) -> "shield_pb2_grpc.ShieldServiceAsyncStub":
        await self._server.start()
        return shield_pb2_grpc.ShieldServiceStub(channels.get(self._target))

    async def __aexit__(self, *_: object) -> None:
        await channels.close()
        await self._server.stop(None)
        await self._around.wait_idle()


async def read(
    call: "grpc.aio.StreamStreamCall[shield_pb2.InspectStreamRequest, shield_pb2.InspectStreamResponse]",
) -> None:
    async for _ in call:
        pass


def leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            found += leaves(cast("BaseExceptionGroup[BaseException]", error))
        else:
            found.append(error)
    return found
