"""A turn, read with asyncio."""

import asyncio
import gc

import pytest

import shieldmesh
from shieldmesh import Delta, Finished, FinishReason, Hold, Started, channels
from shieldmesh.v1.chat_pb2 import ChatEvent

from .scripted import ScriptedChat, delta, engine_failure, finished, hello, redacted, serving, started

LIMIT = 60.0
"""Seconds after which a test that hangs fails."""


async def test_events_come_typed_and_in_order() -> None:
    """Each event of the contract arrives as its own type with its values."""
    async with serving(ScriptedChat(hello())) as url, shieldmesh.connect(url) as mesh:
        events = [event async for event in mesh.chat("hi", timeout=LIMIT)]
    assert [event.sequence for event in events] == [1, 2, 3, 4]
    first, second, _, last = events
    assert isinstance(first, Started)
    assert (first.turn_id, first.model) == ("turn-1", "echo")
    assert second == Delta(2, "Hello", token_count=1)
    assert isinstance(last, Finished)
    assert last.reason is FinishReason.STOP
    assert last.usage.total_tokens == 5
    assert last.timings.first_token == 0.25
    assert last.timings.admitted is None
    assert last.receipt.output_shields == ("pii",)
    assert last.receipt.holds == (Hold("pii", 5, 0.5),)


async def test_the_request_says_what_was_asked() -> None:
    """Prompt, conversation, profile, sampling and session reach the gateway."""
    chat = ScriptedChat(hello())
    async with serving(chat) as url, shieldmesh.connect(url) as mesh:
        conversation = [shieldmesh.Message("system", "Be brief."), shieldmesh.Message("user", "hi")]
        sampling = shieldmesh.Sampling(temperature=0.0, max_tokens=7, stop=("END",))
        turn = mesh.chat(conversation, profile="echo", session="s:1", sampling=sampling, timeout=LIMIT)
        await turn.text()
    request = chat.requests[0]
    assert request.profile == "echo"
    assert [message.parts[0].text for message in request.messages] == ["Be brief.", "hi"]
    assert request.sampling.HasField("temperature")
    assert not request.sampling.HasField("top_p")
    assert list(request.sampling.stop) == ["END"]
    assert chat.metadata[0]["x-session-id"] == "s:1"


async def test_result_collects_the_whole_turn() -> None:
    """`result` gives text, verdicts and the end in one value."""
    chat = ScriptedChat([started(), delta(2, "My card is "), redacted(3), delta(4, "[PAYMENT_CARD]"), finished(5)])
    async with serving(chat) as url, shieldmesh.connect(url) as mesh:
        result = await mesh.chat("hi", timeout=LIMIT).result()
    assert result.text == "My card is [PAYMENT_CARD]"
    assert [verdict.action for verdict in result.verdicts] == [shieldmesh.Action.REDACT]
    assert result.verdicts[0].findings[0].kind == "payment_card"


async def test_break_cancels_the_call() -> None:
    """Leaving the loop and dropping the turn ends the handler at the server."""
    chat = ScriptedChat([started(), delta(2, "Hello")], wait=True)
    async with serving(chat) as url, shieldmesh.connect(url) as mesh:
        async for _ in mesh.chat("hi", timeout=LIMIT):
            break
        async with asyncio.timeout(LIMIT / 2):
            await chat.ended.wait()


async def test_leaving_the_block_cancels_a_turn_that_somebody_holds() -> None:
    """`async with turn` ends the handler at the server at its end, whoever else refers to the turn."""
    chat = ScriptedChat([started()], wait=True)
    async with serving(chat) as url, shieldmesh.connect(url) as mesh:
        async with mesh.chat("hi", timeout=LIMIT) as turn:
            await anext(turn)
        async with asyncio.timeout(LIMIT / 2):
            await chat.ended.wait()
        with pytest.raises(StopAsyncIteration):
            await anext(turn)


async def test_closing_the_client_ends_its_turns() -> None:
    """A reader in another task hears a typed error when the client is closed under it."""
    chat = ScriptedChat([started()], wait=True)
    async with serving(chat) as url:
        async with shieldmesh.connect(url) as mesh:
            turn = mesh.chat("hi", timeout=LIMIT)
            await anext(turn)
            reader = asyncio.ensure_future(turn.text())
            await asyncio.sleep(0)
        with pytest.raises(shieldmesh.CancelledCallError):
            await reader
        async with asyncio.timeout(LIMIT / 2):
            await chat.ended.wait()


async def test_cancelling_the_reader_cancels_the_call() -> None:
    """The cancellation of the reading task reaches the server and stays a cancellation."""
    chat = ScriptedChat([started()], wait=True)
    async with serving(chat) as url, shieldmesh.connect(url) as mesh:
        turn = mesh.chat("hi", timeout=LIMIT)
        await anext(turn)
        reader = asyncio.ensure_future(turn.text())
        await asyncio.sleep(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        async with asyncio.timeout(LIMIT / 2):
            await chat.ended.wait()


async def test_an_error_is_typed_and_knows_its_path() -> None:
    """A failure in mid-stream arrives after the events before it, with reason and hops."""
    chat = ScriptedChat([started(), delta(2, "Hel")], error=engine_failure())
    async with serving(chat) as url, shieldmesh.connect(url) as mesh:
        turn = mesh.chat("hi", timeout=LIMIT)
        assert [(await anext(turn)).sequence, (await anext(turn)).sequence] == [1, 2]
        with pytest.raises(shieldmesh.InternalError) as caught:
            await anext(turn)
    assert caught.value.reason == "ENGINE_FAILED"
    assert [hop.service for hop in caught.value.hops] == ["gateway", "inference"]


async def test_a_mesh_that_is_not_there() -> None:
    """Nobody at the address is an UnavailableError that says what to start."""
    async with shieldmesh.connect("unix:/nowhere/mesh.sock") as mesh:
        with pytest.raises(shieldmesh.UnavailableError, match="shieldmesh up") as caught:
            await mesh.chat("hi", timeout=LIMIT).text()
    assert [hop.service for hop in caught.value.hops] == ["gateway"]


async def test_the_timeout_ends_the_turn() -> None:
    """A turn that takes longer than its timeout fails with DeadlineExceededError."""
    chat = ScriptedChat([started()], wait=True)
    async with serving(chat) as url, shieldmesh.connect(url) as mesh:
        with pytest.raises(shieldmesh.DeadlineExceededError):
            await mesh.chat("hi", timeout=0.2).text()


@pytest.mark.parametrize(
    ("events", "error"),
    [
        ([started(), delta(3, "gap"), finished(4)], shieldmesh.DataLossError),
        ([started(), delta(2, "a"), delta(2, "twice")], shieldmesh.DataLossError),
        ([started(), delta(2, "no end")], shieldmesh.InternalError),
    ],
    ids=["gap", "twice", "no end"],
)
async def test_a_stream_with_holes_is_an_error(events: list[ChatEvent], error: type[shieldmesh.MeshError]) -> None:
    """A lost, doubled or missing last event is never passed over in silence."""
    async with serving(ScriptedChat(events)) as url, shieldmesh.connect(url) as mesh:
        with pytest.raises(error):
            _ = [event async for event in mesh.chat("hi", timeout=LIMIT)]


async def test_one_client_under_two_loops() -> None:
    """The same client works under one `asyncio.run` after the other."""
    async with serving(ScriptedChat(hello())) as url:
        mesh = shieldmesh.connect(url)

        async def ask() -> str:
            return await mesh.chat("hi", timeout=LIMIT).text()

        def twice() -> list[str]:
            return [asyncio.run(ask()), asyncio.run(ask())]

        assert await asyncio.to_thread(twice) == ["Hello world"] * 2


async def test_a_dropped_turn_leaves_nothing_behind() -> None:
    """A turn that nobody reads makes no call, and its end raises no warning."""
    chat = ScriptedChat(hello())
    async with serving(chat) as url, shieldmesh.connect(url) as mesh:
        mesh.chat("hi")
        gc.collect()
        assert await mesh.chat("hi", timeout=LIMIT).text() == "Hello world"
        await channels.close()
    assert len(chat.requests) == 1


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"session": "not an id"}, "session"),
        ({"session": "s" * 129}, "session"),
        ({"timeout": 0}, "timeout"),
        ({"idempotency_key": "not a key"}, "idempotency_key"),
        ({"profile": "\udcff"}, "profile"),
        ({"sampling": shieldmesh.Sampling(top_k=-1)}, "sampling"),
    ],
)
async def test_what_cannot_be_sent_is_refused(arguments: dict[str, object], field: str) -> None:
    """A value that the wire cannot carry is a typed error that names its field, before any call."""
    mesh = shieldmesh.connect()
    with pytest.raises(shieldmesh.InvalidArgumentError) as caught:
        mesh.chat("hi", **arguments)  # type: ignore[arg-type]  # the wrong values are the point
    assert caught.value.field == field


async def test_a_role_that_does_not_exist_is_refused() -> None:
    """A message with an unknown role is a typed error that names the message."""
    with pytest.raises(shieldmesh.InvalidArgumentError) as caught:
        shieldmesh.connect().chat([shieldmesh.Message("user", "hi"), shieldmesh.Message("wizard", "hi")])
    assert caught.value.field == "messages[1].role"
