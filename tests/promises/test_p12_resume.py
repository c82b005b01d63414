"""P12: a client that lost its connection goes on after the last event it saw: each event once, in order, none lost."""

import asyncio
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

import shieldmesh
from shieldmesh import Delta, Event, Finished, FinishReason, NotFoundError, Started, TurnState

from .mesh import TIMEOUT, eventually, running, tasks_at_work
from .observing import observed

TURNS: Final = 64
DETACHED: Final[Mapping[str, Mapping[str, Any]]] = {"default": {"disconnect": "detach"}}


def words(turn: int) -> str:
    """What a turn says: each word tells the turn and its place."""
    return "".join(f"{turn}:{place} " for place in range(40))


async def read_in_pieces(client: shieldmesh.Mesh, number: int, chance: random.Random) -> list[Event]:
    """All events of a turn, by a reader whose connection breaks again and again."""
    events: list[Event] = []
    turn = client.chat(words(number), session=f"session-{number}", timeout=TIMEOUT)
    while not (events and isinstance(events[-1], Finished)):
        async with turn:
            for _ in range(chance.randint(1, 20)):
                events.append(await anext(turn))
                if isinstance(events[-1], Finished):
                    break
        assert isinstance(events[0], Started)
        turn_id, session = events[0].turn_id, events[0].session_id
        turn = client.resume(turn_id, after=events[-1].sequence, session=session, timeout=TIMEOUT)
    return events


@pytest.mark.parametrize("seed", range(4))
async def test_interrupted_readers_miss_nothing(tmp_path: Path, seed: int) -> None:
    """64 turns at once, each read in random pieces: every reader sees exactly its own 1..n, and nothing is left."""
    with observed() as seen:
        async with running(tmp_path, profiles=DETACHED) as mesh:
            reading = (
                read_in_pieces(mesh.client, number, random.Random(f"{seed}.{number}")) for number in range(TURNS)
            )
            turns = await asyncio.gather(*reading)
            await mesh.idle()
            await eventually(lambda: not tasks_at_work())
            assert mesh.turns is not None
            assert len(mesh.turns) == 0
        assert seen.warnings() == []
    for number, events in enumerate(turns):
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert "".join(event.text for event in events if isinstance(event, Delta)) == words(number)
        assert sum(isinstance(event, Finished) for event in events) == 1


async def test_many_readers_of_one_turn(tmp_path: Path) -> None:
    """Readers that come at any time and begin anywhere all get the same events, while the turn runs and afterwards."""
    async with running(tmp_path, profiles=DETACHED) as mesh:
        client = mesh.client
        async with client.chat(words(0), session="s", timeout=TIMEOUT) as turn:
            first = [await anext(turn)]
            assert isinstance(first[0], Started)
            turn_id = first[0].turn_id

            async def read(after: int) -> list[Event]:
                return [event async for event in client.resume(turn_id, after=after, session="s", timeout=TIMEOUT)]

            early = [asyncio.create_task(read(after)) for after in range(10)]
            first += [event async for event in turn]
        assert await asyncio.gather(*early) == [first[after:] for after in range(10)]
        assert await asyncio.gather(*map(read, range(len(first)))) == [first[after:] for after in range(len(first))]


async def test_a_turn_left_alone(tmp_path: Path) -> None:
    """The blocking client resumes, fetches and cancels as the other one does; strangers cannot."""
    profiles = {"default": {"model": "endless", "disconnect": "detach"}}
    async with running(tmp_path, profiles=profiles) as mesh:
        target = mesh.target("gateway")
        async with mesh.client.chat("go", session="s", timeout=TIMEOUT) as turn:
            started = await anext(turn)
            assert isinstance(started, Started)
        record = await mesh.client.get_turn(started.turn_id, session="s", timeout=TIMEOUT)
        assert record.state is TurnState.RUNNING

        def look() -> list[Event]:
            with shieldmesh.connect_sync(target) as client:
                with pytest.raises(NotFoundError) as failure:
                    client.get_turn(started.turn_id, session="other", timeout=TIMEOUT)
                assert failure.value.reason == "TURN_NOT_FOUND"
                with client.resume(started.turn_id, session="s", timeout=TIMEOUT) as events:
                    read = [next(events) for _ in range(5)]
                with pytest.raises(NotFoundError):
                    client.cancel_turn(started.turn_id, session="other", timeout=TIMEOUT)
                client.cancel_turn(started.turn_id, session="s", timeout=TIMEOUT)
                with client.resume(started.turn_id, after=5, session="s", timeout=TIMEOUT) as events:
                    return read + list(events)

        events = await asyncio.to_thread(look)
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert isinstance(events[-1], Finished)
        assert events[-1].reason is FinishReason.CANCELLED
        record = await mesh.client.get_turn(started.turn_id, session="s", timeout=TIMEOUT)
        assert (record.state, record.sequence) == (TurnState.FINISHED, events[-1].sequence)
        assert record.text == "".join(event.text for event in events if isinstance(event, Delta))
        await mesh.idle()
