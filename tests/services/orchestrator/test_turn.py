"""One turn between services that do as they are told: who is asked when, what leaves, and how it ends."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from shieldmesh import calls, channels
from shieldmesh.errors import (
    NotFoundError,
)
from shieldmesh.v1 import chat_pb2, generation_pb2, policy_pb2, shield_pb2, shield_pb2_grpc
from tests.services.orchestrator.serving import (
    CALL_CAP,
    TIMEOUT,
    Answers,
    Asked,
    Generated,
    Script,
    Texts,
    begun,
    cleared,
    clears,
    ended,
    guards,
    message,
    opened,
    profile,
    run,
    said,
    says,
    serving,
    text_of,
    until_cancelled,
)

BLOCK = policy_pb2.Verdict(shield="pii", action=policy_pb2.ACTION_BLOCK)


async def test_a_turn_from_started_to_finished(tmp_path: Path) -> None:
    """The client gets who answers, the text, and the account of it: tokens, characters, phases."""
    policy = profile(input=guards("flag"), output=guards())
    async with serving(Script(generate=says("Hel", "lo")), tmp_path, policy) as stub:
        first, *_, last = events = await run(stub)
    assert (first.started.profile, first.started.profile_version, first.started.model) == (
        "test",
        policy.version,
        "scripted",
    )
    assert text_of(events) == "Hello"
    finished = last.finished
    assert finished.reason == generation_pb2.FINISH_REASON_STOP
    assert finished.usage == generation_pb2.Usage(prompt_tokens=3, completion_tokens=2, total_tokens=5)
    receipt = finished.receipt
    assert (receipt.generated_characters, receipt.released_characters, receipt.withheld_characters) == (5, 5, 0)
    assert (list(receipt.input_shields), list(receipt.output_shields)) == (["pii"], ["pii"])
    assert sum(event.delta.token_count for event in events) == 2
    assert {name.name for name, _ in finished.timings.ListFields()} == {
        "input_cleared",
        "admitted",
        "first_token",
        "first_release",
        "total",
        "queued",
    }


async def test_without_shields_text_passes(tmp_path: Path) -> None:
    """A profile without shields asks the shield service nothing."""

    async def inspect(request: shield_pb2.InspectRequest) -> shield_pb2.InspectResponse:
        raise AssertionError(request)

    async with serving(Script(inspect=inspect, generate=says("a", "b")), tmp_path, profile()) as stub:
        events = await run(stub)
    assert text_of(events) == "ab"


async def test_an_unknown_profile(tmp_path: Path) -> None:
    """It is refused with those there are."""
    async with serving(Script(), tmp_path, profile("one"), profile("two")) as stub:
        with pytest.raises(NotFoundError) as failure:
            await run(stub, profile="three")
    assert (failure.value.field, failure.value.reason) == ("profile", "PROFILE_NOT_FOUND")
    assert "one, two" in failure.value.message


@pytest.mark.parametrize(
    "output",
    [{}, guards(), {**guards("block"), "mode": "observe"}],
    ids=["unguarded output", "guarded output", "observed output"],
)
async def test_parallel_input_shields_hold_the_answer_until_they_spoke(
    tmp_path: Path, output: dict[str, object]
) -> None:
    """The model writes beside the input shields; when they block, none of it leaves, and the engine's account does."""
    written = asyncio.Event()

    async def inspect(request: shield_pb2.InspectRequest) -> shield_pb2.InspectResponse:
        assert list(request.texts) == ["my secret"]
        await written.wait()
        return shield_pb2.InspectResponse(verdicts=[BLOCK])

    async def generate(requests: Asked) -> Generated:
        await anext(requests)
        yield begun()
        yield said("answer")
        written.set()
        async for request in requests:
            assert request.HasField("stop")
            yield ended(7, "FINISH_REASON_CANCELLED")
            return

    script = Script(inspect=inspect, generate=generate)
    async with serving(script, tmp_path, profile(input=guards("block"), output=output)) as stub:
        started, verdict, last = await run(stub, "my secret")
    assert started.HasField("started")
    assert verdict.verdict == BLOCK
    assert last.finished.reason == generation_pb2.FINISH_REASON_CONTENT_FILTER
    assert last.finished.usage.completion_tokens == 7
    receipt = last.finished.receipt
    assert (receipt.released_characters, receipt.withheld_characters) == (0, receipt.generated_characters)


async def test_the_model_is_called_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The input shields look in its time, and those that see its text are called when it is asked."""
    called: list[str] = []
    bidi, unary = calls.bidi, calls.unary

    def noted(rpc: Any, **options: Any) -> Any:
        called.append(rpc.method.rpartition("/")[2])
        return bidi(rpc, **options)

    async def noted_unary(rpc: Any, *request: Any, **options: Any) -> Any:
        called.append(rpc.method.rpartition("/")[2])
        return await unary(rpc, *request, **options)

    monkeypatch.setattr(calls, "bidi", noted)
    monkeypatch.setattr(calls, "unary", noted_unary)
    async with serving(Script(), tmp_path, profile(input=guards("flag"), output=guards())) as stub:
        assert text_of(await run(stub)) == "hello"
    assert called == ["Generate", "Inspect", "InspectStream"]


async def test_gating_input_shields_come_before_the_model(tmp_path: Path) -> None:
    """In gate mode the model is asked after the shields have spoken, and sees what they made of the text."""
    steps: list[str] = []

    async def inspect(request: shield_pb2.InspectRequest) -> shield_pb2.InspectResponse:
        del request
        steps.append("inspected")
        edit = shield_pb2.Edit(text_index=0, start=5, end=8, replacement="[NAME]")
        return shield_pb2.InspectResponse(edits=[edit])

    async def generate(requests: Asked) -> Generated:
        opening = (await anext(requests)).open
        steps.append(opening.messages[0].parts[0].text)
        yield begun()
        yield ended(0)

    script = Script(inspect=inspect, generate=generate)
    async with serving(script, tmp_path, profile(input={"mode": "gate", **guards()})) as stub:
        await run(stub, "I am Ann.")
    assert steps == ["inspected", "I am [NAME]."]


async def test_a_gate_that_blocks_asks_no_model(tmp_path: Path) -> None:
    """The turn ends with CONTENT_FILTER, and costs no token."""

    async def inspect(request: shield_pb2.InspectRequest) -> shield_pb2.InspectResponse:
        del request
        return shield_pb2.InspectResponse(verdicts=[BLOCK])

    async def generate(requests: Asked) -> Generated:
        yield said((await anext(requests)).open.model)
        raise AssertionError

    script = Script(inspect=inspect, generate=generate)
    async with serving(script, tmp_path, profile(input={"mode": "gate", **guards("block")})) as stub:
        *_, verdict, last = await run(stub)
    assert verdict.verdict == BLOCK
    assert last.finished.reason == generation_pb2.FINISH_REASON_CONTENT_FILTER
    assert last.finished.usage == generation_pb2.Usage()


async def test_a_block_of_the_output_ends_the_turn(tmp_path: Path) -> None:
    """What was cleared before leaves, then the verdict and the end; the engine is told to stop and its account kept."""

    async def inspect_stream(requests: Texts) -> Answers:
        await anext(requests)
        yield opened()
        await anext(requests)
        yield cleared(5, seen=14, verdicts=[BLOCK])

    async def generate(requests: Asked) -> Generated:
        await anext(requests)
        yield begun()
        yield said("good, and bad.")
        async for request in requests:
            assert request.HasField("stop")
            yield said("more")
            yield ended(9, "FINISH_REASON_CANCELLED")
            return

    script = Script(inspect_stream=inspect_stream, generate=generate)
    async with serving(script, tmp_path, profile(output=guards("block"))) as stub:
        _, delta, verdict, last = await run(stub)
    assert delta.delta.text == "good,"
    assert verdict.verdict == BLOCK
    finished = last.finished
    assert finished.reason == generation_pb2.FINISH_REASON_CONTENT_FILTER
    assert finished.usage.completion_tokens == 9
    assert (finished.receipt.released_characters, finished.receipt.withheld_characters) == (5, 13)


async def test_output_is_blocked_while_the_input_is_still_inspected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shields' stream can end before anybody reads it: its verdict still ends the turn, and not a failed write."""
    refused = asyncio.Event()

    async def inspect(request: shield_pb2.InspectRequest) -> shield_pb2.InspectResponse:
        del request
        await refused.wait()
        return shield_pb2.InspectResponse()

    async def inspect_stream(requests: Texts) -> Answers:
        await anext(requests)
        yield opened()
        await anext(requests)
        yield cleared(0, seen=3, verdicts=[BLOCK])

    async def generate(requests: Asked) -> Generated:
        await anext(requests)
        yield begun()
        yield said("bad")
        while not refused.is_set():
            yield said("more")
        yield ended(21)

    script = Script(inspect=inspect, inspect_stream=inspect_stream, generate=generate)
    note_failed_writes(monkeypatch, refused)
    async with serving(script, tmp_path, profile(input=guards("flag"), output=guards("block"))) as stub:
        events = await run(stub)
    assert text_of(events) == ""
    assert events[-1].finished.reason == generation_pb2.FINISH_REASON_CONTENT_FILTER


def note_failed_writes(monkeypatch: pytest.MonkeyPatch, note: asyncio.Event) -> None:
    """Notes when a call cannot be written to any more."""
    bidi = calls.bidi

    @asynccontextmanager
    async def watched(rpc: Any) -> AsyncGenerator[Any]:  # Any: the types differ per RPC
        async with bidi(rpc) as call:
            write = call.write

            async def noting(request: object) -> None:
                try:
                    await write(request)
                except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    note.set()
                    raise

            monkeypatch.setattr(call, "write", noting)
            yield call

    monkeypatch.setattr(calls, "bidi", watched)


async def test_reasoning_and_tool_calls_are_guarded_too(tmp_path: Path) -> None:
    """Every text of the model passes the shields in a lane of its own, and comes out as what it was."""
    shown: dict[int, str] = {}

    async def inspect_stream(requests: Texts) -> Answers:
        async for answer in clears(watched(requests)):
            yield answer

    async def watched(requests: Texts) -> Texts:
        async for request in requests:
            shown[request.text.lane] = shown.get(request.text.lane, "") + request.text.text
            yield request

    arguments = ('{"city": ', '"Bern"}')
    calling = [
        generation_pb2.ToolCallDelta(index=0, id="c1", name="weather", arguments=arguments[0]),
        generation_pb2.ToolCallDelta(index=0, arguments=arguments[1]),
    ]
    deltas = [
        generation_pb2.Delta(reasoning="They ask for weather.", token_count=4),
        *(generation_pb2.Delta(tool_call=call, token_count=1) for call in calling),
        generation_pb2.Delta(text="One moment.", token_count=2),
    ]
    script = Script(inspect_stream=inspect_stream, generate=says(*deltas))
    async with serving(script, tmp_path, profile(output=guards())) as stub:
        events = await run(stub)
    assert shown == {0: "They ask for weather.", 1: "".join(arguments), 2: "One moment."}
    out = [event.delta for event in events]
    assert "".join(delta.reasoning for delta in out) == "They ask for weather."
    assert "".join(delta.tool_call.arguments for delta in out) == "".join(arguments)
    assert [(delta.tool_call.id, delta.tool_call.name) for delta in out if delta.tool_call.id] == [("c1", "weather")]
    assert text_of(events) == "One moment."


async def test_a_client_that_cancels_ends_both_streams(tmp_path: Path) -> None:
    """Cancelling the call ends the shields' stream and the generation."""
    shields_end, model_ends = asyncio.Event(), asyncio.Event()

    async def inspect_stream(requests: Texts) -> Answers:
        try:
            async for answer in clears(requests):
                yield answer
        finally:
            shields_end.set()

    async def generate(requests: Asked) -> Generated:
        await anext(requests)
        yield begun()
        yield said("word")
        await until_cancelled(model_ends)

    script = Script(inspect_stream=inspect_stream, generate=generate)
    async with serving(script, tmp_path, profile(output=guards())) as stub:
        request = chat_pb2.ChatRequest(profile="test", messages=[message("hi")])
        async with calls.stream(stub.Chat, request, timeout=CALL_CAP) as stream:
            async for event in stream:
                if event.HasField("delta"):
                    break
        await asyncio.wait_for(asyncio.gather(shields_end.wait(), model_ends.wait()), TIMEOUT)


async def test_a_reader_that_stalls_stops_the_model_and_may_leave(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is read from the model while the client does not read; leaving in that state is no failure of anyone."""
    written, ends = [0], asyncio.Event()

    async def generate(requests: Asked) -> Generated:
        await anext(requests)
        try:
            yield begun()
            while True:
                yield said("x" * 10_000)
                written[0] += 10_000
        finally:
            ends.set()

    with caplog.at_level(logging.WARNING):
        async with serving(Script(generate=generate), tmp_path, profile(output=guards())) as stub:
            request = chat_pb2.ChatRequest(profile="test", messages=[message("hi")])
            async with calls.stream(stub.Chat, request, timeout=CALL_CAP) as stream:
                assert isinstance(await stream.read(), chat_pb2.ChatEvent)
                await until_still(written, tmp_path)
            await asyncio.wait_for(ends.wait(), TIMEOUT)
    assert not caplog.records


async def test_a_slow_reader_gets_everything(tmp_path: Path) -> None:
    """With room for a few characters only, a long answer still arrives in full and in order."""
    words = [f"{number} " for number in range(500)]
    async with serving(Script(generate=says(*words)), tmp_path, profile(output=guards()), window=3) as stub:
        events = await run(stub)
    assert text_of(events) == "".join(words)
    assert sum(event.delta.token_count for event in events) == 500


async def test_concurrent_turns_keep_apart(tmp_path: Path) -> None:
    """Turns on the same services get each their own text and verdicts."""

    async def generate(requests: Asked) -> Generated:
        text = (await anext(requests)).open.messages[-1].parts[0].text
        yield begun()
        for word in text.split():
            yield said(word + " ")
            await asyncio.sleep(0)
        yield ended(len(text.split()))

    texts = [" ".join([f"turn{number}"] * 20) + " " for number in range(24)]
    async with serving(Script(generate=generate), tmp_path, profile(output=guards())) as stub:
        turns = await asyncio.gather(*(run(stub, text) for text in texts))
    assert [text_of(events) for events in turns] == texts


async def until_still(counter: list[int], directory: Path) -> None:
    """Returns when the count has stopped while the loop served many calls."""
    other = shield_pb2_grpc.ShieldServiceStub(channels.get(f"unix:{directory / 'shield'}.sock"))
    last = -1
    async with asyncio.timeout(TIMEOUT):
        while last != counter[0]:
            last = counter[0]
            for _ in range(100):
                await other.Inspect(shield_pb2.InspectRequest(), timeout=TIMEOUT)
