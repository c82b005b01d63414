"""Whole turns through four real processes."""

import asyncio
import random
import uuid

import shieldmesh
from shieldmesh import Delta, FinishReason, Result, Sampling, Started
from shieldmesh.v1 import chat_pb2, message_pb2
from tests.e2e import engine, policies
from tests.e2e.engine import TIMEOUT
from tests.e2e.mesh import Mesh


async def test_tokens_arrive_while_the_model_still_writes(scripted_mesh: Mesh) -> None:
    """The first text is at the client while the engine runs on and has most of its tokens still to generate."""
    async with (
        shieldmesh.connect(scripted_mesh.url) as client,
        client.chat("", profile="slow", timeout=TIMEOUT) as turn,
    ):
        first = next(event for event in [await anext(turn), await anext(turn)] if isinstance(event, Delta))
        assert policies.LONG.startswith(first.text)
        then = await engine.model(scripted_mesh, "script")
        assert then.running >= 1
        later = await engine.until(
            scripted_mesh, "script", lambda now: now.generated_tokens >= then.generated_tokens + 5
        )
        assert later.running >= 1
        assert isinstance(await anext(turn), Delta)


async def test_32_concurrent_turns_keep_apart(scripted_mesh: Mesh) -> None:
    """Each of 32 turns at once gets exactly its own text under its own ids, and its own account of it."""
    chance = random.Random(7)
    texts = [" ".join(f"turn{number}-{chance.random():.6f}" for _ in range(40)) for number in range(32)]

    async def run(number: int) -> Result:
        turn = client.chat(texts[number], profile="repeat", session=f"session-{number}", timeout=TIMEOUT)
        return await turn.result()

    async with shieldmesh.connect(scripted_mesh.url) as client:
        results = await asyncio.gather(*map(run, range(32)))

    assert [result.text for result in results] == texts
    assert [result.started.session_id for result in results] == [f"session-{number}" for number in range(32)]
    turns = {result.started.turn_id for result in results}
    assert len(turns) == 32
    assert {uuid.UUID(turn).version for turn in turns} == {7}
    assert len({result.started.trace_id for result in results}) == 32
    for result, text in zip(results, texts, strict=True):
        assert result.finished.reason is FinishReason.STOP
        assert result.finished.receipt.released_characters == len(text)
        assert result.finished.usage.completion_tokens == 40


async def test_a_session_that_has_no_name_gets_one(scripted_mesh: Mesh) -> None:
    """Two turns without a session id run in two sessions."""
    async with shieldmesh.connect(scripted_mesh.url) as client:
        first, second = [await client.chat("hi", profile="repeat", timeout=TIMEOUT).result() for _ in range(2)]
    assert first.started.session_id
    assert first.started.session_id != second.started.session_id


async def test_another_model_stands_in_for_one_that_is_not_there(scripted_mesh: Mesh) -> None:
    """The client sees who answers and who failed, and one whole turn."""
    async with shieldmesh.connect(scripted_mesh.url) as client:
        result = await client.chat("hi there", profile="spare", timeout=TIMEOUT).result()
    assert (result.started.model, result.started.fallback_from) == ("echo", ("away", "missing"))
    assert (result.text, result.finished.reason) == ("hi there", FinishReason.STOP)
    assert result.finished.usage.total_tokens == 4


async def test_a_card_never_leaves_however_it_is_cut(scripted_mesh: Mesh) -> None:
    """Cut into two pieces at any place, or into characters, the card is replaced and all the rest arrives."""
    profiles = [name for name in policies.policies() if name.startswith("two-")] + ["single"]

    async def run(profile: str) -> list[shieldmesh.Event]:
        return [event async for event in client.chat("", profile=profile, timeout=TIMEOUT)]

    async with shieldmesh.connect(scripted_mesh.url) as client:
        turns = await asyncio.gather(*map(run, profiles))

    assert len(turns) == len(policies.SENTENCE)
    for profile, events in zip(profiles, turns, strict=True):
        text = "".join(event.text for event in events if isinstance(event, Delta))
        assert text == policies.REDACTED, profile
        _, *said, finished = events  # the first and the last hold random ids and times, in which any digits can be
        assert not any(group in repr(said) for group in ("4111", "1111")), profile
        assert isinstance(finished, shieldmesh.Finished)
        receipt = finished.receipt
        assert (receipt.generated_characters, receipt.redacted_characters, receipt.withheld_characters) == (
            len(policies.SENTENCE),
            len(policies.CARD),
            0,
        ), profile


async def test_a_real_model_answers(mesh: Mesh) -> None:
    """The default profile streams a real model's tokens, guarded both ways, with the engine's own count of them."""
    async with shieldmesh.connect(mesh.url) as client:
        turn = client.chat("Count to twenty.", sampling=Sampling(max_tokens=24, seed=1), timeout=60.0)
        events = [event async for event in turn]
    started, *deltas, finished = events
    assert isinstance(started, Started)
    assert (started.profile, started.model) == ("default", "smollm2")
    assert len([event for event in deltas if isinstance(event, Delta)]) > 1
    assert isinstance(finished, shieldmesh.Finished)
    assert finished.reason in {FinishReason.STOP, FinishReason.LENGTH}
    assert 1 <= finished.usage.completion_tokens <= 24
    assert finished.usage.prompt_tokens > 0
    assert finished.receipt.input_shields == ("secrets", "injection", "pii")
    assert finished.receipt.output_shields == ("secrets", "pii")


async def test_system_and_earlier_messages_reach_the_model(scripted_mesh: Mesh) -> None:
    """A conversation of several messages is one turn; the model that repeats says the last of the user's."""
    roles = (message_pb2.ROLE_SYSTEM, message_pb2.ROLE_USER, message_pb2.ROLE_ASSISTANT, message_pb2.ROLE_USER)
    messages = [
        message_pb2.Message(role=role, parts=[message_pb2.ContentPart(text=f"message {number}")])
        for number, role in enumerate(roles)
    ]
    request = chat_pb2.ChatRequest(profile="repeat", messages=messages)
    async with shieldmesh.connect(scripted_mesh.url) as client:
        result = await client.run(request, timeout=TIMEOUT).result()
    assert result.text == "message 3"
    assert result.finished.usage.prompt_tokens == 8


async def test_a_turn_that_waits_says_so(scripted_mesh: Mesh) -> None:
    """Of three turns for a model with one place, those that wait hear so from the model's service, each for itself."""
    async with shieldmesh.connect(scripted_mesh.url) as client:

        async def run() -> list[shieldmesh.Event]:
            return [event async for event in client.chat("", profile="queued", timeout=TIMEOUT)]

        turns = await asyncio.gather(run(), run(), run())
    told = [[event for event in turn if isinstance(event, shieldmesh.Progress)] for turn in turns]
    assert sorted((event.name, event.payload["waiting"]) for each in told for event in each) == [
        ("queue", 1.0),
        ("queue", 2.0),
    ]
    assert sorted(map(len, told)) == [0, 1, 1]
    for turn in turns:
        assert [event.sequence for event in turn] == list(range(1, len(turn) + 1))
        assert "".join(event.text for event in turn if isinstance(event, Delta)) == "one after the other"
