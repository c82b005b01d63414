"""Turns that are resumed after processes were killed in their middle."""

import json
from collections.abc import Generator

import pytest

import shieldmesh
from shieldmesh import (
    DataLossError,
    Delta,
    Event,
    Finished,
    MeshError,
    NotFoundError,
    Started,
    Turn,
    TurnState,
    UnavailableError,
)
from tests.e2e.conftest import SCRIPTED_MODELS
from tests.e2e.engine import TIMEOUT
from tests.e2e.mesh import Mesh, running

STORY = " ".join(f"word{number}" for number in range(120))
"""What a turn says in some seconds, at the pace of a model."""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Generator[Mesh]:
    """A mesh with a turn log in a file."""
    profiles, log = tmp_path_factory.mktemp("profiles"), tmp_path_factory.mktemp("log") / "turns.db"
    story = {"model": "script", "model_options": {"text": STORY, "pace": 40}, "disconnect": "detach"}
    remembers = {"model": "echo", "history": {"mode": "keep"}}
    for name, policy in {"story": story, "default": {"model": "echo"}, "remembers": remembers}.items():
        (profiles / f"{name}.yaml").write_text(json.dumps(policy))
    settings = {"SHIELDMESH_ORCHESTRATOR_TURN_LOG": str(log)}
    with running(profiles=profiles, models=SCRIPTED_MODELS, environment=settings) as own:
        yield own


async def read(turn: Turn, events: list[Event]) -> None:
    """Reads a turn to its end, which may be an error."""
    async for event in turn:
        events.append(event)  # noqa: PERF401  # what came before an error counts


async def broken_off(mesh: Mesh, kill: str) -> list[Event]:
    """The events of a turn until a service is killed in its middle."""
    events: list[Event] = []
    async with shieldmesh.connect(mesh.url, reconnect=None) as client:
        turn = client.chat("", profile="story", session="s", timeout=TIMEOUT)
        events += [await anext(turn) for _ in range(20)]
        mesh.kill(kill)
        with pytest.raises(UnavailableError):
            await read(turn, events)
    mesh.start(kill)
    return events


async def test_the_gateway_is_killed(mesh: Mesh) -> None:
    """The turn goes on without it; at the new one the client gets the rest, each event once and in order."""
    events = await broken_off(mesh, "gateway")
    assert isinstance(events[0], Started)
    async with shieldmesh.connect(mesh.url) as client:
        turn_id = events[0].turn_id
        async for event in client.resume(turn_id, after=events[-1].sequence, session="s", timeout=TIMEOUT):
            events.append(event)
        with pytest.raises(NotFoundError):
            await client.get_turn(turn_id, session="other", timeout=TIMEOUT)
        record = await client.get_turn(turn_id, session="s", timeout=TIMEOUT)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert "".join(event.text for event in events if isinstance(event, Delta)) == STORY == record.text
    assert isinstance(events[-1], Finished)
    assert record.state is TurnState.FINISHED


async def test_the_orchestrator_is_killed(mesh: Mesh) -> None:
    """What ended before is all there; the turn that it cut is there as far as it was kept, and then says so."""
    async with shieldmesh.connect(mesh.url) as client:
        whole = [event async for event in client.chat("all of it", session="s", timeout=TIMEOUT)]
        assert isinstance(whole[0], Started)
        # Asking makes sure that it is kept.
        await client.get_turn(whole[0].turn_id, session="s", timeout=TIMEOUT)
    events = await broken_off(mesh, "orchestrator")
    assert isinstance(events[0], Started)
    kept: list[Event] = []
    async with shieldmesh.connect(mesh.url) as client:
        again = [event async for event in client.resume(whole[0].turn_id, session="s", timeout=TIMEOUT)]
        with pytest.raises(DataLossError) as failure:
            await read(client.resume(events[0].turn_id, session="s", timeout=TIMEOUT), kept)
        record = await client.get_turn(events[0].turn_id, session="s", timeout=TIMEOUT)
    assert again == whole
    assert failure.value.reason == "TURN_LOST"
    assert kept
    # The log may be ahead of the client, and a moment behind it: neither has what the other has not.
    assert all(mine == theirs for mine, theirs in zip(kept, events, strict=False))
    assert record.state is TurnState.FAILED
    assert isinstance(record.error, MeshError)


async def test_a_conversation_outlives_the_orchestrator(mesh: Mesh) -> None:
    """Killed right behind an answer, the service knows the conversation when it is back, until it is deleted."""
    async with shieldmesh.connect(mesh.url) as client:
        first = await client.chat("one", profile="remembers", session="talk", timeout=TIMEOUT).result()
        mesh.kill("orchestrator")
        mesh.start("orchestrator")
        second = await client.chat("two", profile="remembers", session="talk", timeout=TIMEOUT).result()
        assert second.finished.usage.prompt_tokens > first.finished.usage.prompt_tokens
        turns = [turn async for turn in client.list_session_turns("talk", timeout=TIMEOUT)]
        assert [[message.text for message in turn.messages] for turn in turns] == [["one", "one"], ["two", "two"]]
        with pytest.raises(NotFoundError):
            await client.get_session("other", timeout=TIMEOUT)
        await client.delete_session("talk", timeout=TIMEOUT)
        for turn in (first, second):
            with pytest.raises(NotFoundError):
                await client.get_turn(turn.started.turn_id, session="talk", timeout=TIMEOUT)
