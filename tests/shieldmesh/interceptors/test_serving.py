"""The order of what happens around a call, and whose cancellation a cancellation is."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import NoReturn

import grpc
import pytest

from shieldmesh.errors import NotFoundError, UnavailableError
from shieldmesh.interceptors import INNER, limit
from shieldmesh.interceptors.call import ServerCall, ServerIdentity, ServerInterceptor
from shieldmesh.interceptors.stopping import Stopping
from shieldmesh.v1 import chat_pb2, generation_pb2
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


LARGE = chat_pb2.ChatEvent(delta=generation_pb2.Delta(text="x" * 1_000_000))
"""Far more than leaves before it is read."""


class Writing:
    """A call whose caller has read nothing yet: its handler is in the middle of a message."""

    def __init__(self) -> None:
        self.stopping = Stopping()
        self.call = CALL
        self.cleaned_up = asyncio.Event()

    async def handle(self, request: chat_pb2.ChatRequest) -> AsyncGenerator[chat_pb2.ChatEvent]:
        """Writes a message that waits for its reader, and another one."""
        del request
        try:
            yield LARGE
            yield LARGE
        finally:
            self.cleaned_up.set()

    def note(self, call: ServerCall) -> AbstractContextManager[None]:
        """Notes which call is served."""
        self.call = call
        return nullcontext()

    async def begun(self) -> None:
        """Returns when the message is on its way."""
        while not self.call.writing:  # noqa: ASYNC110  # a plain flag, for speed
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("end", ["deadline", "cut"])
async def test_who_is_cut_in_mid_message_hears_the_message_and_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """No status leaves before a message that is on its way; without one the caller would wait for ever."""
    monkeypatch.setattr(limit, "WRITE_SECONDS", TIMEOUT)
    writing = Writing()
    around = (*INNER, writing.stopping.serve, writing.note)
    cap = 0.2 if end == "deadline" else TIMEOUT
    async with asyncio.timeout(TIMEOUT), listening(writing.handle, tmp_path, interceptors=around, call_cap=cap) as at:
        call = stub_of(at).Chat(chat_pb2.ChatRequest(), timeout=TIMEOUT)
        await writing.begun()
        if end == "cut":
            writing.stopping.cut()
        while not writing.call.written:  # noqa: ASYNC110  # as above
            await asyncio.sleep(0.001)
        assert await call.read() == LARGE
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await call.read()
    statuses = {"deadline": grpc.StatusCode.DEADLINE_EXCEEDED, "cut": grpc.StatusCode.UNAVAILABLE}
    assert failure.value.code() is statuses[end]
    assert failure.value.details() != "Cancelling all calls"  # which is what gRPC would say
    assert writing.cleaned_up.is_set()


async def test_a_caller_who_reads_nothing_holds_up_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The handler is cancelled though its message has not left."""
    monkeypatch.setattr(limit, "WRITE_SECONDS", 0.01)
    writing = Writing()
    around = (*INNER, writing.stopping.serve, writing.note)
    async with asyncio.timeout(TIMEOUT), listening(writing.handle, tmp_path, interceptors=around) as at:
        call = stub_of(at).Chat(chat_pb2.ChatRequest(), timeout=TIMEOUT)
        await writing.begun()
        writing.stopping.cut()
        await writing.cleaned_up.wait()
        call.cancel()
