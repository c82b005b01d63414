"""A mesh that keeps turns and sessions in memory: turns go on over broken connections, and no file has their text."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import shieldmesh
from shieldmesh import Delta, Event, NotFoundError, Reconnected, Started
from tests.e2e.conftest import SCRIPTED_MODELS
from tests.e2e.cutting import Wire
from tests.e2e.engine import TIMEOUT
from tests.e2e.mesh import Mesh, running

WORD = "quokka"
STORY = " ".join(f"{WORD}{number}" for number in range(80))
SERVICES = ("gateway", "orchestrator", "shield", "inference")


async def test_a_turn_is_resumed_and_leaves_no_file(tmp_path: Path) -> None:
    """A client whose connection breaks gets the rest, and the next turn knows the one before; no file has a word."""
    (profiles := tmp_path / "profiles").mkdir()
    story = {"model": "script", "model_options": {"text": STORY, "pace": 40}, "history": {"mode": "keep"}}
    (profiles / "story.yaml").write_text(json.dumps({**story, "reconnect_grace": 60}))
    (place := tmp_path / "temporary").mkdir()
    settings = {"SHIELDMESH_ORCHESTRATOR_TURN_LOG": "memory:", "TMPDIR": str(place), "SQLITE_TMPDIR": str(place)}
    with running(profiles=profiles, models=SCRIPTED_MODELS, environment=settings) as mesh:
        wire = Wire([mesh.url])
        async with wire.listening(), shieldmesh.connect(wire.address) as client:
            events: list[Event] = []
            async for event in client.chat("", profile="story", session="s", timeout=TIMEOUT):
                events.append(event)
                if len(events) == 20:
                    wire.cut(random.Random(1), 1.0)
            assert any(isinstance(event, Reconnected) for event in events)
            released = [event for event in events if not isinstance(event, Reconnected)]
            assert [event.sequence for event in released] == list(range(1, len(released) + 1))
            assert "".join(event.text for event in released if isinstance(event, Delta)) == STORY
            assert isinstance(released[0], Started)
            turn = released[0].turn_id
            assert [event async for event in client.resume(turn, session="s", timeout=TIMEOUT)] == released
            (kept,) = [each async for each in client.list_session_turns("s", timeout=TIMEOUT)]
            assert [message.text for message in kept.messages][-1] == STORY
            with_text = [path for path in (*written(place), *written(mesh.directory), *open_files(mesh)) if holds(path)]
            assert with_text == []
            mesh.kill("orchestrator")
            mesh.start("orchestrator")
            with pytest.raises(NotFoundError):
                await client.get_turn(turn, session="s", timeout=TIMEOUT)
            with pytest.raises(NotFoundError):
                await client.get_session("s", timeout=TIMEOUT)


def written(directory: Path) -> Iterator[Path]:
    """All files below a directory."""
    return (path for path in directory.rglob("*") if path.is_file())


def open_files(mesh: Mesh) -> Iterator[Path]:
    """All files that the services have open, wherever they lie, and if they have no name any more."""
    for service in SERVICES:
        for descriptor in Path(f"/proc/{mesh.pid(service)}/fd").iterdir():
            if descriptor.is_file():
                yield descriptor


def holds(path: Path) -> bool:
    """Whether it has some of the story."""
    return WORD.encode() in path.read_bytes()
