"""What the interceptors promise, over real calls in one process."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from types import MappingProxyType

import grpc
import pytest

from shieldmesh import calls, context, errors
from shieldmesh.context import RequestContext
from shieldmesh.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    MeshError,
    NotFoundError,
)
from shieldmesh.interceptors import EDGE, deadline
from shieldmesh.interceptors.call import ServerCall, ServerIdentity
from shieldmesh.v1 import chat_pb2, chat_pb2_grpc
from tests.shieldmesh.serving import TIMEOUT, Handler, event, listening, stub_of

REQUEST = chat_pb2.ChatRequest()
Events = AsyncGenerator[chat_pb2.ChatEvent]


async def ask(target: str, timeout: float | None = TIMEOUT) -> None:  # noqa: ASYNC109  # the call's own
    """Reads a whole answer."""
    async with calls.stream(stub_of(target).Chat, REQUEST, timeout=timeout) as events:
        async for _ in events:
            pass


async def failure_of(handler: Handler, directory: Path) -> MeshError:
    """How a call of this handler fails."""
    async with listening(handler, directory) as target:
        with pytest.raises(MeshError) as failure:
            await ask(target)
    return failure.value


async def raw(target: str, *metadata: tuple[str, str | bytes], timeout: float | None = TIMEOUT) -> None:  # noqa: ASYNC109
    """Reads a whole answer as a client that knows nothing of the mesh."""
    async with grpc.aio.insecure_channel(target) as channel:
        async for _ in chat_pb2_grpc.ChatServiceStub(channel).Chat(REQUEST, metadata=metadata, timeout=timeout):
            pass


# Errors


async def test_an_exception_says_nothing_outside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The client gets INTERNAL with the path; neither it nor the log gets the exception's text."""

    async def broken(request: chat_pb2.ChatRequest) -> Events:
        del request
        yield event()
        raise ValueError("the user's words")

    with caplog.at_level(logging.DEBUG):
        error = await failure_of(broken, tmp_path)
    assert type(error) is InternalError
    assert [(hop.service, hop.reason) for hop in error.hops] == [("service", "INTERNAL")]
    assert "the user's words" not in str(error) + caplog.text
    assert "ValueError" in caplog.text


async def test_a_cancelled_part_of_the_work_gives_a_status(tmp_path: Path) -> None:
    """A CancelledError from inside would leave the client waiting for its deadline."""

    async def confused(request: chat_pb2.ChatRequest) -> Events:
        del request
        yield event()
        task = asyncio.create_task(asyncio.sleep(TIMEOUT))
        task.cancel()
        await task

    error = await failure_of(confused, tmp_path)
    assert (type(error), error.reason) == (InternalError, "INNER_CANCELLED")


async def test_the_error_of_a_group_that_says_most(tmp_path: Path) -> None:
    """Of several failures at once the client gets a typed one, rather than a defect beside it."""

    async def several(request: chat_pb2.ChatRequest) -> Events:
        del request
        yield event()
        raise BaseExceptionGroup("", [ValueError(), ExceptionGroup("", [NotFoundError("gone", field="profile")])])

    error = await failure_of(several, tmp_path)
    assert (type(error), error.field) == (NotFoundError, "profile")


async def test_every_service_on_the_way_adds_itself_once(tmp_path: Path) -> None:
    """Over three services the path is complete, outermost first, each with its own time."""

    async def last(request: chat_pb2.ChatRequest) -> Events:
        del request
        yield event()
        raise NotFoundError("gone")

    def passing(target: str) -> Handler:
        async def handle(request: chat_pb2.ChatRequest) -> Events:
            async with calls.stream(stub_of(target).Chat, request) as events:
                async for each in events:
                    yield each

        return handle

    async with (
        listening(last, tmp_path, name="third") as third,
        listening(passing(third), tmp_path, name="second") as second,
        listening(passing(second), tmp_path, name="first", interceptors=EDGE) as first,
    ):
        with pytest.raises(NotFoundError) as failure:
            await ask(first)
    hops = failure.value.hops
    assert [hop.service for hop in hops] == ["first", "second", "third"]
    assert {hop.reason for hop in hops} == {"NOT_FOUND"}
    assert sorted((hop.elapsed for hop in hops), reverse=True) == [hop.elapsed for hop in hops]


async def test_leaving_during_a_write_is_no_failure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A client that leaves while the server is blocked in a write ends the handler quietly, in its own context."""
    flooded, ended = asyncio.Event(), asyncio.Event()
    seen: list[str] = []

    async def flooding(request: chat_pb2.ChatRequest) -> Events:
        del request
        try:
            yield event()
            flooded.set()  # the next write begins before anybody sees this, and waits for a reader
            while True:
                yield chat_pb2.ChatEvent(started=chat_pb2.TurnStarted(model="x" * 1_000_000))
        finally:
            seen.append(context.current().session_id)
            ended.set()

    async with listening(flooding, tmp_path) as target:
        with context.use(RequestContext(session_id="ours")):
            async with calls.stream(stub_of(target).Chat, REQUEST, timeout=TIMEOUT) as events:
                await events.read()
                await flooded.wait()
        await asyncio.wait_for(ended.wait(), TIMEOUT)
    assert seen == ["ours"]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


# Session


@pytest.mark.parametrize("bad", ["two words", "x" * 129, "semi;colon"])
@pytest.mark.parametrize("key", ["x-session-id", "x-request-id", "x-tenant-id", "x-profile", "x-profile-version"])
async def test_a_bad_id_is_refused(tmp_path: Path, key: str, bad: str) -> None:
    """It is INVALID_ARGUMENT with the entry's name, and the handler never runs."""

    async def never(request: chat_pb2.ChatRequest) -> Events:
        raise AssertionError(request)
        yield event()

    async with listening(never, tmp_path) as target:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await raw(target, (key, bad))
    error = errors.from_rpc_error(failure.value)
    assert (type(error), error.field) == (InvalidArgumentError, f"metadata.{key}")


async def test_the_identity_travels(tmp_path: Path) -> None:
    """What the caller's context says, the handler's says too, the session values included."""
    seen: list[RequestContext] = []

    async def note(request: chat_pb2.ChatRequest) -> Events:
        del request
        seen.append(context.current())
        yield event()

    values = MappingProxyType({"tone": "kind, & more", "län": "ö"})
    ours = RequestContext("s-1", "r-1", "t-1", "p-1", "v-1", values=values)
    async with listening(note, tmp_path) as target:
        with context.use(ours):
            await ask(target)
    (there,) = seen
    assert (there.session_id, there.request_id, there.tenant_id) == ("s-1", "r-1", "t-1")
    assert (there.profile, there.profile_version) == ("p-1", "v-1")
    assert dict(there.values) == dict(ours.values)


async def test_the_edge_believes_nothing(tmp_path: Path) -> None:
    """Of a stranger's metadata only the session id is taken; turn, tenant, profile, values and trace are not."""
    seen: list[RequestContext] = []

    async def note(request: chat_pb2.ChatRequest) -> Events:
        del request
        seen.append(context.current())
        yield event()

    stranger = (
        ("x-request-id", "mine"),
        ("x-tenant-id", "root"),
        ("x-profile", "open"),
        ("baggage", "userId=alice"),
        ("traceparent", f"00-{'ab' * 16}-{'cd' * 8}-01"),
    )
    async with listening(note, tmp_path, interceptors=EDGE) as target:
        await raw(target, *stranger, ("x-session-id", "mine-too"))
        await raw(target, *stranger)
    named, unnamed = seen
    assert named.session_id == "mine-too"
    assert unnamed.session_id not in {"", "mine-too"}
    for ours in seen:
        assert ours.request_id not in {"", "mine"}
        assert (ours.tenant_id, ours.profile, dict(ours.values)) == ("", "", {})


async def test_too_many_session_values(tmp_path: Path) -> None:
    """Baggage beyond the limit is refused, and not cut."""

    async def never(request: chat_pb2.ChatRequest) -> Events:
        raise AssertionError(request)
        yield event()

    async with listening(never, tmp_path) as target:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await raw(target, ("baggage", "sm.a=" + "x" * 2048))
    assert errors.from_rpc_error(failure.value).field == "metadata.baggage"


# Deadline


async def remaining_at(target: str, seen: list[float], timeout: float | None) -> float:  # noqa: ASYNC109
    await raw(target, timeout=timeout)
    return seen.pop()


async def test_deadlines_are_capped_and_keep_a_margin(tmp_path: Path) -> None:
    """A handler has what its caller allows, less a margin, and never more than the service's cap."""
    seen: list[float] = []

    async def note(request: chat_pb2.ChatRequest) -> Events:
        del request
        seen.append(context.current().remaining() or 0.0)
        yield event()

    async with listening(note, tmp_path, call_cap=5.0) as target:
        assert await remaining_at(target, seen, None) < 5.0
        assert await remaining_at(target, seen, 100.0) < 5.0
        assert await remaining_at(target, seen, 2.0) < 2.0


async def test_a_deadline_travels_on(tmp_path: Path) -> None:
    """The next hop has less time than this one, though nobody passed it on."""
    seen: list[float] = []

    async def note(request: chat_pb2.ChatRequest) -> Events:
        del request
        seen.append(context.current().remaining() or 0.0)
        yield event()

    async def through(request: chat_pb2.ChatRequest) -> Events:
        seen.append(context.current().remaining() or 0.0)
        async with calls.stream(stub_of(second).Chat, request) as events:
            async for each in events:
                yield each

    async with (
        listening(note, tmp_path, name="second", call_cap=1000.0) as second,
        listening(through, tmp_path, name="first", call_cap=1000.0) as first,
    ):
        await ask(first, timeout=8.0)
    outer, inner = seen
    assert inner < outer < 8.0


async def test_a_deadline_counts_from_where_it_was_read() -> None:
    """What passes until the deadline is set, be it the collector's second, is not given to the handler on top."""
    call = ServerCall(ServerIdentity("service", "test"), "", {}, time_remaining=TIMEOUT, started=time.monotonic() - 2)
    with deadline.serve(call):
        assert (context.current().remaining() or 0.0) <= TIMEOUT - 2


async def test_past_its_deadline_nothing_runs_on(tmp_path: Path) -> None:
    """The handler is ended before its caller gives up, who hears a typed error with the path."""
    ended = asyncio.Event()

    async def endless(request: chat_pb2.ChatRequest) -> Events:
        del request
        try:
            yield event()
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with listening(endless, tmp_path, call_cap=0.2) as target:
        with pytest.raises(DeadlineExceededError) as failure:
            await ask(target)
        await asyncio.wait_for(ended.wait(), TIMEOUT)
    assert [hop.service for hop in failure.value.hops] == ["service"]


async def test_without_time_left_no_call_is_made(tmp_path: Path) -> None:
    """A call that could not succeed is not tried."""
    asked: list[chat_pb2.ChatRequest] = []

    async def note(request: chat_pb2.ChatRequest) -> Events:
        asked.append(request)
        yield event()

    async with listening(note, tmp_path) as target:
        with context.use(RequestContext(deadline=time.monotonic() - 1)), pytest.raises(DeadlineExceededError):
            await ask(target)
    assert not asked
