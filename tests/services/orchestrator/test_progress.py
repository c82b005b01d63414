"""Interim results of the services in a turn's events."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct

from shieldmesh import calls
from shieldmesh.publishing import MOST
from shieldmesh.v1 import chat_pb2, inference_pb2, policy_pb2, progress_pb2, shield_pb2

from .serving import (
    TIMEOUT,
    Answers,
    Asked,
    Generated,
    Script,
    begun,
    cleared,
    clears,
    ended,
    guards,
    opened,
    profile,
    run,
    said,
    serving,
)


def result(name: str) -> progress_pb2.Progress:
    return progress_pb2.Progress(name=name, payload=Struct())


def told(name: str) -> inference_pb2.GenerateEvent:
    return inference_pb2.GenerateEvent(progress=result(name))


def names(events: list[chat_pb2.ChatEvent]) -> list[str]:
    return [event.progress.name or str(event.WhichOneof("event")) for event in events]


@pytest.mark.parametrize("mode", ["hold", "observe"])
async def test_those_of_every_service_are_events(tmp_path: Path, mode: str) -> None:
    """What the services of the model and the shields publish is numbered in the turn, resumed and fetched with it."""

    async def inspect(request: shield_pb2.InspectRequest) -> shield_pb2.InspectResponse:
        del request
        return shield_pb2.InspectResponse(progress=[result("in-1"), result("in-2")])

    async def inspect_stream(requests: AsyncIterator[shield_pb2.InspectStreamRequest]) -> Answers:
        async for answer in clears(requests):
            yield answer
            if answer.HasField("clearance"):
                yield shield_pb2.InspectStreamResponse(progress=result("out"))

    async def generate(requests: Asked) -> Generated:
        await anext(requests)
        for event in (told("waits"), begun(), told("reads"), said("hello"), ended(1)):
            yield event

    shields: dict[str, Any] = {"input": guards(), "output": {**guards("flag"), "mode": mode}}
    script = Script(inspect=inspect, inspect_stream=inspect_stream, generate=generate)
    async with serving(script, tmp_path, profile(**shields)) as stub:
        events = await run(stub)
        turn = events[0].started.turn_id
        async with calls.stream(stub.Resume, chat_pb2.ResumeRequest(turn_id=turn), timeout=TIMEOUT) as resumed:
            again = [event async for event in resumed]
        record = await calls.unary(stub.GetTurn, chat_pb2.GetTurnRequest(turn_id=turn), timeout=TIMEOUT)
    assert events == again == list(record.events)
    assert names(events)[0] == "started"
    assert names(events)[-1] == "finished"
    assert sorted(set(names(events))) == ["delta", "finished", "in-1", "in-2", "out", "reads", "started", "waits"]
    assert names(events).index("in-1") < names(events).index("in-2")
    assert names(events).index("waits") < names(events).index("reads")


async def test_none_comes_behind_the_end(tmp_path: Path) -> None:
    """What shields publish when a block has ended the turn is not told."""

    async def inspect_stream(requests: AsyncIterator[shield_pb2.InspectStreamRequest]) -> Answers:
        await anext(requests)
        yield opened()
        await anext(requests)
        yield shield_pb2.InspectStreamResponse(progress=result("before"))
        yield cleared(0, seen=5, verdicts=[policy_pb2.Verdict(shield="pii", action=policy_pb2.ACTION_BLOCK)])
        yield shield_pb2.InspectStreamResponse(progress=result("behind"))

    async with serving(Script(inspect_stream=inspect_stream), tmp_path, profile(output=guards("block"))) as stub:
        events = await run(stub)
    assert names(events) == ["started", "before", "verdict", "finished"]


async def test_a_turn_takes_so_many_and_none_that_breaks_the_contract(tmp_path: Path) -> None:
    """Beyond the limit of a turn they are dropped, as are those with names that do not exist; the text is not."""

    async def generate(requests: Asked) -> Generated:
        await anext(requests)
        yield begun()
        yield told("Not A Name")
        for _ in range(MOST + 10):
            yield told("many")
        yield said("hello")
        yield ended(1)

    async with serving(Script(generate=generate), tmp_path, profile()) as stub:
        events = await run(stub)
    assert names(events) == ["started", *["many"] * MOST, "delta", "finished"]


async def test_what_does_not_fit_is_dropped(tmp_path: Path) -> None:
    """While more waits for the client than may, interim results are dropped; the text and its end come all the same."""

    async def inspect(request: shield_pb2.InspectRequest) -> shield_pb2.InspectResponse:
        del request
        # All at once, so that nobody can read some of them meanwhile.
        return shield_pb2.InspectResponse(progress=[result("x" * 64) for _ in range(500)])

    async with serving(Script(inspect=inspect), tmp_path, profile(input=guards("flag")), window=1_000) as stub:
        events = await run(stub)
    assert 1 <= names(events).count("x" * 64) <= 1_000 // 64 + 1
    assert "".join(event.delta.text for event in events) == "hello"
    assert names(events)[-1] == "finished"
