"""Turns whose connections break."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

import shieldmesh
from shieldmesh import Event, Reconnect, Reconnected, errors
from shieldmesh.client.reconnect import Acquaintance, Reading
from shieldmesh.client.request import build_call
from shieldmesh.errors import Hop, MeshError
from shieldmesh.v1 import chat_pb2

from .flaky import Failure, FlakyChat, at, serving, turn

LIMIT = 60.0
"""Seconds after which a test that hangs fails."""
SHORT = Reconnect(attempts=2)
BREAKS = [
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
]

Read = Callable[..., Awaitable[list[Event]]]


async def read(url: str, reconnect: Reconnect | None = SHORT, **options: Any) -> list[Event]:
    async with shieldmesh.connect(url, reconnect=reconnect) as mesh:
        return [event async for event in mesh.chat("hi", timeout=LIMIT, **options)]


async def read_blocking(url: str, reconnect: Reconnect | None = SHORT, **options: Any) -> list[Event]:
    def work() -> list[Event]:
        with shieldmesh.connect_sync(url, reconnect=reconnect) as mesh:
            return list(mesh.chat("hi", timeout=LIMIT, **options))

    return await asyncio.to_thread(work)


both = pytest.mark.parametrize("reader", [read, read_blocking], ids=["asyncio", "blocking"])


def numbers(events: list[Event]) -> list[int]:
    return [event.sequence for event in events if not isinstance(event, Reconnected)]


@both
async def test_a_turn_goes_on_after_its_last_event(reader: Read) -> None:
    """Each event comes once and in order, over any number of breaks of any kind, and each break is told."""
    chat = FlakyChat([*((3, code) for code in BREAKS[:2]), *((1, code) for code in BREAKS[2:])])
    async with serving(chat) as url:
        events = await reader(url)
    assert numbers(events) == list(range(1, 11))
    assert chat.asked[1:] == [3, 6, 7, 8]
    assert len(set(chat.sessions)) == 1
    assert chat.sessions[0]
    told = [event for event in events if isinstance(event, Reconnected)]
    assert [(event.after, event.sequence, event.attempts) for event in told] == [(n, n, 1) for n in (3, 6, 7, 8)]
    assert [event.error.code for event in told] == BREAKS


@both
async def test_a_turn_that_had_not_begun_is_asked_for_again(reader: Read) -> None:
    """With the same key and session, which the client makes itself; the turn comes from its first event."""
    lost = at(errors.CancelledCallError("gone"), "gateway", "-orchestrator")
    chat = FlakyChat([(0, lost), (0, grpc.StatusCode.INTERNAL)])
    async with serving(chat) as url:
        events = await reader(url)
    assert numbers(events) == list(range(1, 11))
    assert isinstance(events[0], Reconnected)
    assert (events[0].after, events[0].attempts) == (0, 2)
    requests = [request for request in chat.asked if isinstance(request, chat_pb2.ChatRequest)]
    assert len({request.idempotency_key for request in requests}) == len(set(chat.sessions)) == 1
    assert requests[0].idempotency_key
    assert chat.sessions[0]


@both
async def test_what_the_caller_names_is_kept(reader: Read) -> None:
    """Its key and its session are sent, and none of the client's."""
    chat = FlakyChat([(4, grpc.StatusCode.UNAVAILABLE)])
    async with serving(chat) as url:
        assert numbers(await reader(url, idempotency_key="mine", session="s-1")) == list(range(1, 11))
    first = chat.asked[0]
    assert isinstance(first, chat_pb2.ChatRequest)
    assert first.idempotency_key == "mine"
    assert chat.sessions == ["s-1", "s-1"]


@both
async def test_without_reconnecting(reader: Read) -> None:
    """A client that is told not to makes one call, without key or session, and raises what broke it."""
    chat = FlakyChat([(4, grpc.StatusCode.UNAVAILABLE)])
    async with serving(chat) as url:
        with pytest.raises(shieldmesh.UnavailableError, match="broke after event 4"):
            await reader(url, reconnect=None)
    assert len(chat.asked) == 1
    assert isinstance(chat.asked[0], chat_pb2.ChatRequest)
    assert (chat.asked[0].idempotency_key, chat.sessions) == ("", [""])


FINAL: list[MeshError] = [
    at(errors.InvalidArgumentError("wrong"), "gateway", "orchestrator"),
    at(errors.DataLossError("lost", reason="TURN_LOST"), "gateway", "orchestrator"),
    at(errors.UnavailableError("no model"), "gateway", "orchestrator", "-inference"),
    at(errors.UnavailableError("no model"), "gateway", "orchestrator", "inference"),
    at(errors.UnavailableError("stops", reason="SERVICE_STOPPING"), "gateway", "orchestrator"),
    at(errors.InternalError("defect"), "gateway", "orchestrator"),
    at(errors.InternalError("defect"), "gateway"),
    at(errors.DeadlineExceededError("late"), "gateway"),
    at(errors.ResourceExhaustedError("full"), "gateway"),
    at(errors.CancelledCallError("gone", reason="TURN_CANCELLED"), "gateway", "orchestrator"),
]


@both
@pytest.mark.parametrize("error", FINAL, ids=str)
async def test_the_end_of_a_turn_is_its_end(reader: Read, error: MeshError) -> None:
    """What the turn itself failed with, or a service on the way says of itself, is raised at once."""
    chat = FlakyChat([(4, error)])
    async with serving(chat) as url:
        with pytest.raises(type(error)) as caught:
            await reader(url)
    assert caught.value.message == error.message
    assert len(chat.asked) == 1


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED]
)
async def test_a_proxy_that_refuses(code: grpc.StatusCode) -> None:
    """What is no break is none either when nobody of the mesh says it."""
    chat = FlakyChat([(4, code)])
    async with serving(chat) as url:
        with pytest.raises(MeshError) as caught:
            await read(url)
    assert (caught.value.code, len(chat.asked)) == (code, 1)


@both
async def test_a_mesh_that_has_never_answered(reader: Read) -> None:
    """It is not waited for."""
    chat = FlakyChat([(0, grpc.StatusCode.INTERNAL)])
    async with serving(chat) as url:
        with pytest.raises(shieldmesh.InternalError):
            await reader(url)
    assert len(chat.asked) == 1


def test_a_call_gets_the_time_that_is_left() -> None:
    """The turn's timeout is that of all its calls together."""
    reading = Reading(build_call("hi", timeout=LIMIT), SHORT, Acquaintance(answered=True))
    first = reading.call().timeout
    assert first is not None
    reading.failed(errors.UnavailableError("broke", hops=[Hop("gateway", "Chat")]))
    again = reading.call().timeout
    assert again is not None
    assert again < first


@pytest.mark.parametrize(
    "error",
    [
        at(errors.UnavailableError("down"), "gateway", "-orchestrator"),
        at(errors.CancelledCallError("reset"), "gateway", "-orchestrator"),
        at(errors.UnavailableError("stops"), "gateway"),
        at(errors.UnavailableError("no log"), "gateway", "orchestrator"),
    ],
    ids=str,
)
async def test_a_break_behind_the_gateway(error: MeshError) -> None:
    """A service between client and turn that cannot be used now is tried again."""
    chat = FlakyChat([(4, error)])
    async with serving(chat) as url:
        assert numbers(await read(url)) == list(range(1, 11))
    assert chat.asked[1:] == [4]


@pytest.mark.parametrize(
    "gone",
    [
        errors.NotFoundError("unknown", reason="TURN_NOT_FOUND"),
        errors.CancelledCallError("ended", reason="TURN_CANCELLED"),
    ],
    ids=["not kept", "ended without its reader"],
)
@both
async def test_a_turn_that_is_gone(reader: Read, gone: MeshError) -> None:
    """When there is nothing to go on with, what broke the connection is raised."""
    chat = FlakyChat([(4, grpc.StatusCode.UNAVAILABLE), (0, at(gone, "gateway", "orchestrator"))])
    async with serving(chat) as url:
        with pytest.raises(shieldmesh.UnavailableError, match="broke after event 4"):
            await reader(url)
    assert chat.asked[1:] == [4]


@pytest.mark.parametrize("policy", [Reconnect(attempts=2), Reconnect(attempts=100, time=0.3)])
@both
async def test_giving_up(reader: Read, policy: Reconnect) -> None:
    """After so many calls, or so long, without an event the error is raised; an event begins both anew."""
    failures: list[tuple[int, Failure]] = [(0, grpc.StatusCode.INTERNAL), (3, grpc.StatusCode.INTERNAL)]
    chat = FlakyChat([(2, grpc.StatusCode.INTERNAL), *failures, *[(0, grpc.StatusCode.INTERNAL)] * 100])
    async with serving(chat) as url:
        with pytest.raises(shieldmesh.InternalError):
            await reader(url, reconnect=policy)
    assert chat.asked[1:4] == [2, 2, 5]
    if policy.attempts == 2:
        assert chat.asked[4:] == [5]
    else:
        assert len(chat.asked) < 50


async def test_the_turns_timeout_holds_over_all_calls() -> None:
    """A turn that breaks and breaks ends when its time is over, with what broke it."""
    chat = FlakyChat([(0, grpc.StatusCode.INTERNAL)] * 100, wait=True)
    async with serving(chat) as url, shieldmesh.connect(url, reconnect=Reconnect(attempts=100, time=100)) as mesh:
        acquainted = mesh.chat("hi", timeout=LIMIT)
        chat.failures.insert(0, (1, grpc.StatusCode.INTERNAL))
        await anext(acquainted)
        await acquainted.aclose()
        with pytest.raises(shieldmesh.InternalError):
            await mesh.chat("hi", timeout=1.5).text()
    assert len(chat.asked) < 50


async def test_closing_a_turn_that_waits_to_reconnect() -> None:
    """A reader that waits for the next attempt hears at once that its turn, or its client, is closed."""
    chat = FlakyChat([(2, grpc.StatusCode.INTERNAL), *[(0, grpc.StatusCode.INTERNAL)] * 100])
    patient = Reconnect(attempts=1_000, time=1_000)
    async with serving(chat) as url:
        async with shieldmesh.connect(url, reconnect=patient) as mesh:
            reading = asyncio.create_task(mesh.chat("hi", timeout=1_000).text())
            await _calls(chat, 4)
        with pytest.raises(shieldmesh.CancelledCallError):
            await reading
        blocking = shieldmesh.connect_sync(url, reconnect=patient)
        thread = asyncio.create_task(asyncio.to_thread(lambda: blocking.chat("hi", timeout=1_000).text()))
        chat.failures.insert(0, (2, grpc.StatusCode.INTERNAL))
        await _calls(chat, 8)
        blocking.close()
        with pytest.raises(shieldmesh.CancelledCallError):
            await thread


async def _calls(chat: FlakyChat, number: int) -> None:
    async with asyncio.timeout(LIMIT):
        while len(chat.asked) < number:  # noqa: ASYNC110  # it is at the other end of a connection
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("leave", ["close", "cancel", "drop"])
async def test_leaving_a_turn_that_would_wait(leave: str) -> None:
    """A turn with a grace is ended when its reader leaves it on purpose."""
    chat = FlakyChat(events=turn(10, grace=60), wait=True)
    async with serving(chat) as url, shieldmesh.connect(url) as mesh:
        turned = mesh.chat("hi", timeout=LIMIT)
        assert (await anext(turned)).sequence == 1
        if leave == "close":
            await turned.aclose()
            assert chat.cancelled.is_set()
        elif leave == "cancel":
            reader = asyncio.create_task(turned.text())
            await asyncio.sleep(0)
            reader.cancel()
            await asyncio.wait([reader], timeout=LIMIT)
            assert reader.cancelled()
        del turned
        await asyncio.wait_for(chat.cancelled.wait(), LIMIT)


@pytest.mark.parametrize("leave", ["close", "drop"])
async def test_leaving_it_without_a_loop(leave: str) -> None:
    """So does the blocking client."""
    chat = FlakyChat(events=turn(10, grace=60), wait=True)

    def work(url: str) -> None:
        with shieldmesh.connect_sync(url) as mesh:
            if leave == "close":
                with mesh.chat("hi", timeout=LIMIT) as turned:
                    next(turned)
            else:
                for _ in mesh.chat("hi", timeout=LIMIT):
                    break

    async with serving(chat) as url:
        await asyncio.to_thread(work, url)
        assert chat.cancelled.is_set()


@pytest.mark.parametrize(
    ("events", "resumed"),
    [
        (turn(10), False),
        (turn(10, chat_pb2.DISCONNECT_DETACH), False),
        (turn(10, chat_pb2.DISCONNECT_DRAIN), False),
        (turn(10, grace=60), True),
    ],
    ids=["no grace", "detach", "drain", "resumed"],
)
async def test_leaving_any_other_turn(events: list[chat_pb2.ChatEvent], resumed: bool) -> None:
    """It ends with the call or goes on, as it is meant to; nobody cancels it."""
    chat = FlakyChat(events=events, wait=True)
    async with serving(chat) as url, shieldmesh.connect(url) as mesh:
        turned = mesh.resume("turn-1", timeout=LIMIT) if resumed else mesh.chat("hi", timeout=LIMIT)
        assert (await anext(turned)).sequence == 1
        await turned.aclose()
    assert not chat.cancelled.is_set()


async def test_a_turn_that_was_read_to_its_end_is_left_alone() -> None:
    """Leaving after the last event cancels nothing, though the stream was not read to its end."""
    chat = FlakyChat(events=turn(3, grace=60))
    async with serving(chat) as url, shieldmesh.connect(url) as mesh, mesh.chat("hi", timeout=LIMIT) as turned:
        for _ in range(3):
            await anext(turned)
    assert not chat.cancelled.is_set()


async def test_resuming_goes_on_too() -> None:
    """A turn that is resumed by hand survives breaks like any other."""
    chat = FlakyChat([(2, grpc.StatusCode.UNAVAILABLE)])
    async with serving(chat) as url, shieldmesh.connect(url) as mesh:
        events = [event async for event in mesh.resume("turn-1", after=4, session="s", timeout=LIMIT)]
    assert numbers(events) == list(range(5, 11))
    assert chat.asked == [4, 6]
    assert chat.sessions == ["s", "s"]


async def test_a_request_is_not_written_to() -> None:
    """`run` sends a copy with a key: the caller's request can be sent again as another one."""
    chat = FlakyChat()
    request = chat_pb2.ChatRequest(profile="echo")
    async with serving(chat) as url, shieldmesh.connect(url) as mesh:
        await mesh.run(request, timeout=LIMIT).text()
    assert request == chat_pb2.ChatRequest(profile="echo")


def test_what_is_no_policy() -> None:
    """A policy that could never try, or gives no time, is refused."""
    for wrong in ({"attempts": 0}, {"time": 0}):
        with pytest.raises(ValueError, match="at least one attempt"):
            Reconnect(**wrong)


def test_turns_of_one_client_decide_apart() -> None:
    """One that has begun is resumed; the other is asked for."""
    mesh = Acquaintance(answered=True)
    one, other = (Reading(build_call("hi"), SHORT, mesh) for _ in range(2))
    for message in turn(3)[:2]:
        one.read(message)
    assert isinstance(other.call().request, chat_pb2.ChatRequest)
    assert isinstance(one.call().request, chat_pb2.ResumeRequest)


@given(length=st.integers(3, 30), parts=st.lists(st.integers(0, 8), max_size=60))
def test_any_breaks(length: int, parts: list[int]) -> None:
    """However calls are cut, whatever was read before, all events come once and in order, or the break is raised."""
    policy = Reconnect(attempts=5, time=1_000)
    reading = Reading(build_call("hi", timeout=None), policy, Acquaintance(answered=True))
    events, idle = turn(length), 0
    numbers: list[int] = []
    cuts = iter(parts)
    while len(numbers) < length:
        request = reading.call().request
        after = request.after_sequence if isinstance(request, chat_pb2.ResumeRequest) else 0
        assert after == len(numbers)
        given = next(cuts, length)
        for message in events[after : after + given]:
            for event in reading.read(message):
                if isinstance(event, Reconnected):
                    assert event.after == len(numbers)
                else:
                    numbers.append(event.sequence)
        if after + given >= length:
            reading.end()
            break
        idle = 0 if given else idle + 1
        error = errors.UnavailableError("broke", hops=[Hop("gateway", "Chat")])
        if idle > policy.attempts:
            with pytest.raises(errors.UnavailableError):
                reading.failed(error)
            return
        assert 0 < reading.failed(error) <= 1
    assert numbers == list(range(1, length + 1))
