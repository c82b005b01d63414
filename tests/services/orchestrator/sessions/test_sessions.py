"""Histories of conversations, through the orchestrator's own services."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import pytest

from services.orchestrator.sessions.history import estimate
from shieldmesh import calls, context
from shieldmesh.context import RequestContext
from shieldmesh.errors import InvalidArgumentError
from shieldmesh.v1 import (
    chat_pb2,
    generation_pb2,
    inference_pb2,
    policy_pb2,
    shield_pb2,
)
from tests.services.orchestrator.serving import (
    TIMEOUT,
    Asked,
    Generated,
    Script,
    begun,
    ended,
    guards,
    message,
    profile,
    said,
    serving,
)

from .talking import KEEP, SYSTEM, TOOL, Model, bytes_in, kept, model, said_in, talk


async def test_the_model_is_shown_the_history_and_what_is_new(tmp_path: Path) -> None:
    """Of each turn a client sends what is new; instructions come first, and are not kept."""
    async with model(tmp_path) as (stub, playing):
        await talk(stub, "one")
        assert playing.last() == [("user", "one")]
        await talk(stub, [message("be brief", role=SYSTEM), message("two")])
        assert playing.last() == [("system", "be brief"), ("user", "one"), ("assistant", "shown 1"), ("user", "two")]
        await talk(stub, "three")
        assert playing.last() == [
            *[("user", "one"), ("assistant", "shown 1")],
            *[("user", "two"), ("assistant", "shown 4")],
            ("user", "three"),
        ]
        await talk(stub, "else", session="other")
        assert playing.last() == [("user", "else")]


async def test_the_profile_decides_who_keeps_it(tmp_path: Path) -> None:
    """A caller may say otherwise where the profile lets it; without a word the profile's holds."""
    playing = Model()
    profiles = [
        profile("none"),
        profile("keep", **KEEP, prompt="Be kind."),
        profile("free", allow_overrides=["history"]),
    ]
    async with serving(Script(generate=playing.generate), tmp_path, *profiles) as stub:
        for name, asked in (("none", chat_pb2.HISTORY_KEEP), ("keep", chat_pb2.HISTORY_NONE)):
            with pytest.raises(InvalidArgumentError, match="does not let callers set history") as refused:
                await talk(stub, "x", name=name, history=asked)
            assert (refused.value.reason, refused.value.field) == ("OVERRIDE_NOT_ALLOWED", "history")
        await talk(stub, "one", name="free")
        await talk(stub, "two", name="free", history=chat_pb2.HISTORY_KEEP)
        assert playing.last() == [("user", "two")]
        await talk(stub, "three", name="keep", history=chat_pb2.HISTORY_KEEP)
        assert playing.last() == [("system", "Be kind."), ("user", "two"), ("assistant", "shown 1"), ("user", "three")]
        with pytest.raises(InvalidArgumentError, match="name one"):
            await talk(stub, "x", name="keep", session="")
        with pytest.raises(InvalidArgumentError, match="expected one of none, keep"):
            await talk(stub, "x", name="free", history=7)


async def test_kept_is_what_the_shields_made_of_it(tmp_path: Path) -> None:
    """Redacted input stays redacted, in the file, too, and of the answer is kept what left."""

    async def inspect(request: shield_pb2.InspectRequest) -> shield_pb2.InspectResponse:
        edits = [
            shield_pb2.Edit(
                text_index=index, start=text.index("secret"), end=text.index("secret") + 6, replacement="[X]"
            )
            for index, text in enumerate(request.texts)
            if "secret" in text
        ]
        return shield_pb2.InspectResponse(edits=edits)

    async def inspect_stream(requests: Any) -> AsyncGenerator[shield_pb2.InspectStreamResponse]:
        await anext(requests)
        async for request in requests:
            text = request.text
            edits = [shield_pb2.Edit(start=0, end=len("hidden"), replacement="[Y]")] if not text.end else []
            seen = text.offset + len(text.text)
            clearance = shield_pb2.Clearance(lane=text.lane, watermark=seen, seen=seen, edits=edits)
            yield shield_pb2.InspectStreamResponse(clearance=clearance)

    playing = Model(lambda _: ["hidden thing"])
    script = Script(inspect=inspect, inspect_stream=inspect_stream, generate=playing.generate)
    guarded = profile(**KEEP, input={**guards(), "mode": "gate"}, output=guards())
    async with serving(script, tmp_path, guarded, sessions=str(tmp_path / "sessions.db")) as stub:
        await talk(stub, "my secret plan")
        assert await kept(tmp_path) == [[("user", "my [X] plan"), ("assistant", "[Y] thing")]]
        await talk(stub, "go on")
        assert playing.last() == [("user", "my [X] plan"), ("assistant", "[Y] thing"), ("user", "go on")]
        files = bytes_in(tmp_path)
        assert b"[X] plan" in files
        assert b"secret" not in files
        assert b"hidden" not in files


async def test_shields_see_the_history_again(tmp_path: Path) -> None:
    """Behind the texts of the request, whose numbers do not change; what they redact now the model sees redacted."""
    seen: list[list[str]] = []

    async def inspect(request: shield_pb2.InspectRequest) -> shield_pb2.InspectResponse:
        seen.append(list(request.texts))
        edits = [shield_pb2.Edit(text_index=index, start=0, end=3, replacement="[X]") for index in (2, 4)]
        return shield_pb2.InspectResponse(edits=edits if len(request.texts) > 2 else [])

    tool = generation_pb2.ToolCallDelta(id="c", name="f", arguments="{'a': 1}")
    playing = Model(lambda opening: [generation_pb2.Delta(tool_call=tool)] if len(opening.messages) == 1 else ["done"])
    strict = profile("strict", **KEEP, input={**guards(), "mode": "gate"})
    script = Script(inspect=inspect, generate=playing.generate)
    async with serving(script, tmp_path, profile(**KEEP), strict) as stub:
        await talk(stub, "one")
        await talk(stub, [message("two", role=TOOL, tool_call_id="c"), message("three")], name="strict")
        assert seen == [["two", "three", "one", "", "{'a': 1}"]]
        assert playing.last() == [("user", "[X]"), ("assistant", ""), ("tool", "two"), ("user", "three")]
        assert playing.shown[-1].messages[1].tool_calls[0].arguments == "[X]': 1}"
        assert await kept(tmp_path) == [
            [("user", "one"), ("assistant", "")],
            [("tool", "two"), ("user", "three"), ("assistant", "done")],
        ]


async def test_calls_of_tools_and_their_results(tmp_path: Path) -> None:
    """A client answers a call with the result alone; a result that nobody asked for is refused, and changes nothing."""
    tool = generation_pb2.ToolCallDelta(id="call-1", name="weather", arguments='{"city": "Oslo"}')

    def says(opening: inference_pb2.GenerateOpen) -> Sequence[generation_pb2.Delta | str]:
        return ["It rains."] if opening.messages[-1].role == TOOL else [generation_pb2.Delta(tool_call=tool)]

    async with model(tmp_path, says=says) as (stub, playing):
        with pytest.raises(InvalidArgumentError, match="not in the history") as refused:
            await talk(stub, [message("rain", role=TOOL, tool_call_id="call-1")])
        assert refused.value.field == "messages.tool_call_id"
        await talk(stub, "How is the weather?")
        await talk(stub, [message("rain", role=TOOL, tool_call_id="call-1")])
        assert playing.last() == [("user", "How is the weather?"), ("assistant", ""), ("tool", "rain")]
        (call,) = playing.shown[-1].messages[1].tool_calls
        assert (call.id, call.name, call.arguments) == ("call-1", "weather", '{"city": "Oslo"}')
        assert len(await kept(tmp_path)) == 2


async def test_turns_without_an_answer_are_not_kept(tmp_path: Path) -> None:
    """Those that a shield blocked, before or in the middle, and those that failed; the conversation goes on without."""

    async def inspect(request: shield_pb2.InspectRequest) -> shield_pb2.InspectResponse:
        blocks = "bad" in request.texts[0]
        verdict = policy_pb2.Verdict(shield="pii", action=policy_pb2.ACTION_BLOCK)
        return shield_pb2.InspectResponse(verdicts=[verdict] if blocks else [])

    async def inspect_stream(requests: Any) -> AsyncGenerator[shield_pb2.InspectStreamResponse]:
        await anext(requests)
        async for request in requests:
            text = request.text
            seen = text.offset + len(text.text)
            blocks = "worse" in text.text
            verdicts = [policy_pb2.Verdict(shield="pii", action=policy_pb2.ACTION_BLOCK)] if blocks else []
            clearance = shield_pb2.Clearance(lane=text.lane, watermark=seen - blocks, seen=seen, verdicts=verdicts)
            yield shield_pb2.InspectStreamResponse(clearance=clearance)

    def says(opening: inference_pb2.GenerateOpen) -> Sequence[str]:
        text = opening.messages[-1].parts[0].text
        if text == "fail":
            raise InvalidArgumentError("no", field="messages")
        return [] if text == "silent" else ["some ", text]

    playing = Model(says)
    script = Script(inspect=inspect, inspect_stream=inspect_stream, generate=playing.generate)
    async with serving(script, tmp_path, profile(**KEEP, input=guards("block"), output=guards("block"))) as stub:
        await talk(stub, "first")
        for text in ("bad", "worse", "silent"):
            await talk(stub, text)
        with pytest.raises(InvalidArgumentError):
            await talk(stub, "fail")
        await talk(stub, "last")
        assert playing.last() == [("user", "first"), ("assistant", "some first"), ("user", "last")]


async def test_a_turn_that_is_stopped_is_kept_as_far_as_it_came(tmp_path: Path) -> None:
    """Who stops an answer goes on behind what there is of it."""
    playing = Model()
    stopped = asyncio.Event()

    async def generate(requests: Asked) -> Generated:
        if playing.shown:
            async for event in playing.generate(requests):
                yield event
            return
        playing.shown.append((await anext(requests)).open)
        yield begun()
        yield said("half an ")
        await anext(requests)  # stop
        stopped.set()
        yield ended(1, "FINISH_REASON_CANCELLED")

    async with serving(Script(generate=generate), tmp_path, profile(**KEEP)) as stub:
        request = chat_pb2.ChatRequest(profile="test", messages=[message("one")])
        with context.use(RequestContext(session_id="s")):
            async with calls.stream(stub.Chat, request, timeout=TIMEOUT) as stream:
                events = aiter(stream)
                cancel = chat_pb2.CancelTurnRequest(turn_id=(await anext(events)).started.turn_id)
                await anext(events)
                await calls.unary(stub.CancelTurn, cancel, timeout=TIMEOUT)
                assert [event.WhichOneof("event") async for event in events] == ["finished"]
        assert stopped.is_set()
        await talk(stub, "two")
        assert playing.last() == [("user", "one"), ("assistant", "half an "), ("user", "two")]


async def test_two_turns_at_once(tmp_path: Path) -> None:
    """Both see the history as it was when they began; they are kept whole, in the order in which they end."""
    gates = {"slow": asyncio.Event(), "quick": asyncio.Event()}
    playing = Model()
    both = asyncio.Event()

    async def generate(requests: Asked) -> Generated:
        opening = (await anext(requests)).open
        playing.shown.append(opening)
        text = opening.messages[-1].parts[0].text
        if len(playing.shown) == 3:
            both.set()
        yield begun()
        if text in gates:
            await gates[text].wait()
        yield said(f"to {text}")
        yield ended(1)

    async with serving(Script(generate=generate), tmp_path, profile(**KEEP)) as stub:
        await talk(stub, "first")
        slow, quick = (asyncio.create_task(talk(stub, name)) for name in ("slow", "quick"))
        async with asyncio.timeout(TIMEOUT):
            await both.wait()
        for gate, turn in (("quick", quick), ("slow", slow)):
            gates[gate].set()
            await turn
        assert all(
            said_in(each.messages)[:-1] == [("user", "first"), ("assistant", "to first")] for each in playing.shown[1:]
        )
        await talk(stub, "last")
        assert [text for _, text in playing.last()] == [
            *("first", "to first", "quick", "to quick", "slow", "to slow", "last"),
        ]


async def test_who_hears_of_the_end_can_go_on(tmp_path: Path) -> None:
    """A turn is kept before its client gets `finished`: the next one need not wait for the call to end."""
    async with model(tmp_path) as (stub, playing):
        request = chat_pb2.ChatRequest(profile="test", messages=[message("one")])
        with context.use(RequestContext(session_id="s")):
            async with calls.stream(stub.Chat, request, timeout=TIMEOUT) as stream:
                async for event in stream:
                    if event.HasField("finished"):
                        await talk(stub, "two")
        assert playing.last() == [("user", "one"), ("assistant", "shown 1"), ("user", "two")]


async def test_the_history_is_bounded(tmp_path: Path) -> None:
    """However long the conversation, what the model is shown of it, and what is kept, stays under the limit."""
    bound = 150
    playing = Model()
    small = profile(history={"mode": "keep", "tokens": bound})
    async with serving(Script(generate=playing.generate), tmp_path, small) as stub:
        for number in range(12):
            await talk(stub, f"question {number} " + "x" * 100)
            assert estimate(playing.shown[-1].messages[:-1]) <= bound
        *history, _ = playing.shown[-1].messages
        assert len(history) == 6
        assert [text.split()[1] for _, text in said_in(history)[::2]] == ["8", "9", "10"]
        turns = await kept(tmp_path)
        assert len(turns) == 3
        # One that takes all the room by itself is answered, and then forgotten.
        await talk(stub, "x" * 1_000)
        await talk(stub, "short")
        assert playing.last() == [("user", "short")]


async def test_the_characters_of_a_request_count_with_its_history(tmp_path: Path) -> None:
    """What the profile takes of a request at most is not exceeded by what is added to it."""
    playing = Model(lambda _: ["y" * 40])
    small = profile(**KEEP, limits={"input_characters": 150})
    async with serving(Script(generate=playing.generate), tmp_path, small) as stub:
        for _ in range(3):
            await talk(stub, "x" * 40)
        assert len(playing.last()) == 3
        await talk(stub, "x" * 140)
        assert len(playing.last()) == 1


async def test_a_restart(tmp_path: Path) -> None:
    """A conversation goes on behind a restart of the service, when its file is kept."""
    file = str(tmp_path / "sessions.db")
    async with model(tmp_path, sessions=file) as (stub, _):
        await talk(stub, "one")
    async with model(tmp_path, sessions=file) as (stub, playing):
        await talk(stub, "two")
        assert playing.last() == [("user", "one"), ("assistant", "shown 1"), ("user", "two")]
