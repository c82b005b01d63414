"""The order of what happens around a call, and whose cancellation a cancellation is."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import grpc
import pytest

from shieldmesh.errors import NotFoundError, UnavailableError
from shieldmesh.interceptors import INNER
from shieldmesh.interceptors.call import ServerCall, ServerIdentity, ServerInterceptor
from shieldmesh.interceptors.stopping import Stopping
from shieldmesh.v1 import chat_pb2
from tests.shieldmesh.serving import TIMEOUT, event, listening, stub_of

CALL = ServerCall(ServerIdentity("service", "test"), "", {}, time_remaining=None)


async def handle(request: chat_pb2.ChatRequest) -> AsyncGenerator[chat_pb2.ChatEvent]:
    """Fails with what nobody outside may see."""
    del request
    yield event()
    raise KeyError("private")


def noting(said: list[str], name: str, *, instead: Exception | None = None) -> ServerInterceptor:
    """Notes when it begins and what it sees at the end; raises something else instead."""

    @contextmanager
    def note(call: ServerCall) -> Generator[None]:
        said.append(f"{name} begins")
        try:
            yield
        except (KeyError, NotFoundError) as error:
            said.append(f"{name} sees {type(error).__name__} behind {call.sent}")
            raise instead or error from None

    return note


async def test_each_interceptor_sees_what_the_inner_ones_made_of_an_error(tmp_path: Path) -> None:
    """The first is the outermost; what the last to see it raises is the call's status."""
    said: list[str] = []
    around = (*INNER, noting(said, "outer"), noting(said, "inner", instead=NotFoundError("not there")))
    async with listening(handle, tmp_path, interceptors=around) as target:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            async for _ in stub_of(target).Chat(chat_pb2.ChatRequest(), timeout=TIMEOUT):
                pass
    assert failure.value.code() is grpc.StatusCode.NOT_FOUND
    assert said == [
        "outer begins",
        "inner begins",
        "inner sees KeyError behind 1",
        "outer sees NotFoundError behind 1",
    ]


async def test_one_that_refuses_ends_those_that_have_begun(tmp_path: Path) -> None:
    """Nothing inside it begins, the handler least of all."""
    said: list[str] = []

    def refusing(call: ServerCall) -> NoReturn:
        raise NotFoundError(call.method)

    around = (*INNER, noting(said, "outer"), refusing, noting(said, "inner"))
    async with listening(handle, tmp_path, interceptors=around) as target:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            async for _ in stub_of(target).Chat(chat_pb2.ChatRequest(), timeout=TIMEOUT):
                pass
    assert failure.value.code() is grpc.StatusCode.NOT_FOUND
    assert said == ["outer begins", "outer sees NotFoundError behind 0"]


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_cancellation_beside_a_cut_stays_one(cancelled: bool) -> None:
    """Who is cut hears why; who is cancelled as well is cancelled, as the caller who is gone wants it."""
    stopping = Stopping()

    async def serve() -> None:
        with stopping.serve(CALL):
            await asyncio.Event().wait()

    task = asyncio.create_task(serve())
    await asyncio.sleep(0)
    stopping.cut()
    if cancelled:
        task.cancel()
    with pytest.raises(asyncio.CancelledError if cancelled else UnavailableError):
        await task
    assert task.cancelling() == int(cancelled)
