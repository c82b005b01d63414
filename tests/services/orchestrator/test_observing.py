"""A turn whose shields only observe: text leaves at once, verdicts follow, a block cuts the stream."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from shieldmesh import calls
from shieldmesh.errors import InternalError, UnavailableError
from shieldmesh.profile import Profile
from shieldmesh.v1 import chat_pb2, generation_pb2, policy_pb2, shield_pb2
from tests.services.orchestrator.serving import (
    TIMEOUT,
    Answers,
    Asked,
    Generated,
    Script,
    Texts,
    begun,
    cleared,
    collect,
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
)

BLOCK = policy_pb2.Verdict(shield="pii", direction=policy_pb2.DIRECTION_OUTPUT, action=policy_pb2.ACTION_BLOCK)
FLAG = policy_pb2.Verdict(shield="pii", direction=policy_pb2.DIRECTION_OUTPUT, action=policy_pb2.ACTION_FLAG)


def observing(action: str = "block", **more: Any) -> Profile:
    """A profile whose output shield only observes."""
    return profile(output={**guards(action), "mode": "observe"}, **more)


async def test_text_leaves_before_the_shields_have_seen_it(tmp_path: Path) -> None:
    """All of the answer is at the client while its shields have said nothing; their verdict and the end come after."""
    events: list[chat_pb2.ChatEvent] = []
    arrived = asyncio.Event()

    async def inspect_stream(requests: Texts) -> Answers:
        await anext(requests)
        yield opened()
        await arrived.wait()
        seen = 0
        async for request in requests:
            seen += len(request.text.text)
        yield cleared(seen, verdicts=[FLAG])

    script = Script(inspect_stream=inspect_stream, generate=says("one ", "two"))
    async with serving(script, tmp_path, observing("flag")) as stub:
        request = chat_pb2.ChatRequest(profile="test", messages=[message("hi")])
        async with calls.stream(stub.Chat, request, timeout=TIMEOUT) as stream:
            async for event in stream:
                events.append(event)
                if text_of(events) == "one two":
                    arrived.set()
    assert [event.WhichOneof("event") for event in events][-2:] == ["verdict", "finished"]
    receipt = events[-1].finished.receipt
    assert (receipt.released_characters, receipt.withheld_characters) == (7, 0)
    assert list(receipt.output_shields) == ["pii"]


async def test_a_block_cuts_the_stream(tmp_path: Path) -> None:
    """What left before stays, nothing follows the verdict, the engine stops; the receipt claims no cover."""
    stopped = asyncio.Event()

    async def inspect_stream(requests: Texts) -> Answers:
        await anext(requests)
        yield opened()
        await anext(requests)
        yield cleared(0, seen=4, verdicts=[BLOCK])

    async def generate(requests: Asked) -> Generated:
        await anext(requests)
        yield begun()
        yield said("bad ")
        async for request in requests:
            assert request.HasField("stop")
            stopped.set()
            # What an engine still says when it is told to stop.
            yield said("more")
            yield ended(2, "FINISH_REASON_CANCELLED")
            return

    async with serving(Script(inspect_stream=inspect_stream, generate=generate), tmp_path, observing()) as stub:
        events = await run(stub)
    assert stopped.is_set()
    assert text_of(events) == "bad "
    assert [event.WhichOneof("event") for event in events] == ["started", "delta", "verdict", "finished"]
    finished = events[-1].finished
    assert finished.reason == generation_pb2.FINISH_REASON_CONTENT_FILTER
    assert (finished.receipt.released_characters, finished.receipt.withheld_characters) == (4, 4)
    assert list(finished.receipt.output_shields) == []


async def test_observed_text_waits_for_the_input_all_the_same(tmp_path: Path) -> None:
    """Nothing leaves before the input shields have spoken; then all does, in its order."""
    written, cleared_input = asyncio.Event(), asyncio.Event()
    events: list[chat_pb2.ChatEvent] = []

    async def inspect(request: shield_pb2.InspectRequest) -> shield_pb2.InspectResponse:
        del request
        await written.wait()
        assert text_of(events) == ""
        cleared_input.set()
        return shield_pb2.InspectResponse()

    async def generate(requests: Asked) -> Generated:
        await anext(requests)
        yield begun()
        yield said(generation_pb2.Delta(reasoning="hm", token_count=1))
        yield said("one ")
        written.set()
        await cleared_input.wait()
        yield said("two")
        yield ended(3)

    script = Script(inspect=inspect, generate=generate)
    async with serving(script, tmp_path, observing("flag", input=guards("block"))) as stub:
        await collect(stub, events)
    assert text_of(events) == "one two"
    assert "".join(event.delta.reasoning for event in events) == "hm"
    assert sum(event.delta.token_count for event in events) == 3


@pytest.mark.parametrize("unseen", ["judged too little", "ended early"])
async def test_shields_that_do_not_see_everything_fail_the_turn(tmp_path: Path, unseen: str) -> None:
    """A stream of verdicts that ends without a word about part of the text is an error, though the text has left."""

    async def inspect_stream(requests: Texts) -> Answers:
        await anext(requests)
        yield opened()
        await anext(requests)
        yield cleared(4)
        if unseen == "judged too little":
            async for _ in requests:
                pass

    async def generate(requests: Asked) -> Generated:
        await anext(requests)
        yield begun()
        yield said("some" if unseen == "ended early" else "something")
        if unseen == "judged too little":
            yield ended(1)
            return
        async for _ in requests:
            return

    events: list[chat_pb2.ChatEvent] = []
    async with serving(Script(inspect_stream=inspect_stream, generate=generate), tmp_path, observing()) as stub:
        with pytest.raises(InternalError) as failure:
            await collect(stub, events)
    assert failure.value.reason == "SHIELD_BROKEN"


async def test_a_shield_service_that_fails_fails_the_turn(tmp_path: Path) -> None:
    """Observing or not, a policy that cannot be carried out is an error; what the engine says after that stays."""

    async def inspect_stream(requests: Texts) -> Answers:
        await anext(requests)
        yield opened()
        await anext(requests)
        raise UnavailableError("the detector is away")

    async def generate(requests: Asked) -> Generated:
        await anext(requests)
        yield begun()
        yield said("word ")
        async for request in requests:
            assert request.HasField("stop")
            yield said("more")
            yield ended(2, "FINISH_REASON_CANCELLED")
            return

    events: list[chat_pb2.ChatEvent] = []
    async with serving(Script(inspect_stream=inspect_stream, generate=generate), tmp_path, observing()) as stub:
        with pytest.raises(UnavailableError, match="the detector is away"):
            await collect(stub, events)
    assert text_of(events) == "word "
