"""How one turn ends when a service that it needs fails, contradicts itself, or takes too long."""

import asyncio
from pathlib import Path

import pytest

from shieldmesh import calls
from shieldmesh.errors import (
    DeadlineExceededError,
    InternalError,
    MeshError,
    ResourceExhaustedError,
    UnavailableError,
)
from shieldmesh.v1 import chat_pb2, shield_pb2
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


async def test_a_model_that_ends_without_its_last_word(tmp_path: Path) -> None:
    """A stream of tokens that is cut off is a failure, though its status says that all is well."""

    async def generate(requests: Asked) -> Generated:
        await anext(requests)
        yield begun()
        yield said("Hel")

    events: list[chat_pb2.ChatEvent] = []
    async with serving(Script(generate=generate), tmp_path, profile()) as stub:
        with pytest.raises(InternalError) as failure:
            await collect(stub, events)
    assert failure.value.reason == "ENGINE_BROKEN"
    assert [hop.service for hop in failure.value.hops] == ["orchestrator"]
    assert text_of(events) == "Hel"
    assert not events[-1].HasField("finished")


@pytest.mark.parametrize("held", [True, False], ids=["with text held", "with more text to come"])
async def test_shields_that_end_early_fail_the_turn(tmp_path: Path, held: bool) -> None:
    """A shield stream that ends well without having seen and cleared everything is an error; the rest stays."""

    async def inspect_stream(requests: Texts) -> Answers:
        await anext(requests)
        yield opened()
        await anext(requests)
        yield cleared(3 if held else 8, seen=8)

    async def generate(requests: Asked) -> Generated:
        await anext(requests)
        yield begun()
        yield said("the text")
        async for _ in requests:
            return

    events: list[chat_pb2.ChatEvent] = []
    script = Script(inspect_stream=inspect_stream, generate=generate)
    async with serving(script, tmp_path, profile(output=guards())) as stub:
        with pytest.raises(InternalError) as failure:
            await collect(stub, events)
    assert failure.value.reason == "SHIELD_BROKEN"
    assert [hop.service for hop in failure.value.hops] == ["orchestrator"]
    assert text_of(events) == ("the" if held else "the text")


async def test_a_watermark_beyond_the_text_leaks_nothing(tmp_path: Path) -> None:
    """A shield service that clears what it was never shown is broken: nothing more leaves."""

    async def inspect_stream(requests: Texts) -> Answers:
        await anext(requests)
        yield opened()
        async for _ in requests:
            yield cleared(1_000)

    events: list[chat_pb2.ChatEvent] = []
    script = Script(inspect_stream=inspect_stream, generate=says("private"))
    async with serving(script, tmp_path, profile(output=guards())) as stub:
        with pytest.raises(InternalError) as failure:
            await collect(stub, events)
    assert failure.value.reason == "SHIELD_BROKEN"
    assert text_of(events) == ""


@pytest.mark.parametrize("way", ["input", "output"])
async def test_a_shield_service_that_fails_fails_the_turn(tmp_path: Path, way: str) -> None:
    """Its error reaches the client with the path to it, and no text does."""

    async def inspect(request: shield_pb2.InspectRequest) -> shield_pb2.InspectResponse:
        raise UnavailableError("the detector is away", field=str(len(request.texts)))

    async def inspect_stream(requests: Texts) -> Answers:
        await anext(requests)
        yield opened()
        await anext(requests)
        raise UnavailableError("the detector is away", field="1")

    events: list[chat_pb2.ChatEvent] = []
    script = Script(inspect=inspect, inspect_stream=inspect_stream, generate=says(*["word "] * 20))
    async with serving(script, tmp_path, profile(**{way: guards("block")})) as stub:
        with pytest.raises(UnavailableError, match="the detector is away") as failure:
            await collect(stub, events)
    assert [hop.service for hop in failure.value.hops] == ["orchestrator", "shield"]
    assert failure.value.field == "1"
    assert text_of(events) == ""


@pytest.mark.parametrize("output", [{}, guards()], ids=["unguarded output", "guarded output"])
async def test_a_model_that_fails_midway_fails_the_turn(tmp_path: Path, output: dict[str, object]) -> None:
    """The text before is at the client already; then comes the typed error with the path to the engine."""
    arrived = asyncio.Event()

    async def generate(requests: Asked) -> Generated:
        await anext(requests)
        yield begun()
        yield said("half an ")
        await arrived.wait()
        raise ResourceExhaustedError("the engine is out of memory", retry_after=2.0)

    async with serving(Script(generate=generate), tmp_path, profile(output=output)) as stub:
        request = chat_pb2.ChatRequest(profile="test", messages=[message("hi")])
        with pytest.raises(ResourceExhaustedError) as failure:  # noqa: PT012  # reading on is what fails
            async with calls.stream(stub.Chat, request, timeout=TIMEOUT) as stream:
                async for event in stream:
                    if event.delta.text == "half an ":
                        arrived.set()
    assert [hop.service for hop in failure.value.hops] == ["orchestrator", "inference"]
    assert failure.value.retry_after == 2.0


async def test_a_turn_has_a_time_limit(tmp_path: Path) -> None:
    """A turn that takes longer than its profile allows fails with a typed error, and its generation is over."""
    ends = asyncio.Event()

    async def generate(requests: Asked) -> Generated:
        await anext(requests)
        yield begun()
        await until_cancelled(ends)

    async with serving(Script(generate=generate), tmp_path, profile(limits={"duration": 0.1})) as stub:
        with pytest.raises(DeadlineExceededError) as failure:
            await run(stub)
        await asyncio.wait_for(ends.wait(), TIMEOUT)
    assert failure.value.reason == "TURN_TOO_LONG"


async def test_a_defect_says_nothing_of_what_it_met(tmp_path: Path) -> None:
    """An exception in a service reaches the client as INTERNAL, without its text."""

    async def generate(requests: Asked) -> Generated:
        yield said((await anext(requests)).open.model)
        raise ValueError("what the user said")

    async with serving(Script(generate=generate), tmp_path, profile()) as stub:
        with pytest.raises(MeshError) as failure:
            await run(stub)
    assert type(failure.value) is InternalError
    assert "what the user said" not in repr(failure.value) + str(failure.value)
