"""Promise 15, drain: a service that ends takes no new turns, finishes or seals the running ones, loses no event."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

import shieldmesh
from shieldmesh import (
    Delta,
    Event,
    Finished,
    MeshError,
    Started,
    TurnState,
    UnavailableError,
    calls,
    channels,
    context,
)
from shieldmesh.context import RequestContext
from shieldmesh.v1 import chat_pb2, chat_pb2_grpc, message_pb2
from tests.e2e.conftest import SCRIPTED_MODELS
from tests.e2e.engine import TIMEOUT
from tests.e2e.mesh import running

STORY = " ".join(f"word{number}" for number in range(40))
READERS = 6
SERVICES = ("gateway", "orchestrator", "shield", "inference")


@pytest.fixture(scope="module")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Profiles whose turns take a second, and for ever."""
    directory = tmp_path_factory.mktemp("profiles")
    guard = {"type": "deny_list", "action": "redact", "options": {"terms": ["nightfall"]}}
    for name, options in {
        "default": {"text": STORY, "pace": 40},
        "endless": {"text": "word " * 10_000, "pace": 40},
    }.items():
        policy = {
            "model": "script",
            "model_options": options,
            "disconnect": "detach",
            "input": {"shields": [guard]},
            "output": {"shields": [guard]},
        }
        (directory / f"{name}.yaml").write_text(json.dumps(policy))
    return directory


async def test_every_service_is_restarted_under_load_and_no_turn_fails(profiles: Path) -> None:
    """Two of each service; each ends and starts again while turns come without a break: all are read to their ends."""
    with running(profiles=profiles, models=SCRIPTED_MODELS, replicas=2) as mesh:
        over = asyncio.Event()
        async with shieldmesh.connect(mesh.url) as client, asyncio.TaskGroup() as group:
            readers = [group.create_task(read_on(client, over)) for _ in range(READERS)]
            for number in (1, 2):
                for service in SERVICES:
                    await asyncio.to_thread(mesh.terminate, f"{service}-{number}")
                    await asyncio.to_thread(mesh.start, f"{service}-{number}")
            over.set()
        assert sum(reader.result() for reader in readers) >= 2 * READERS


async def test_turns_get_the_grace_and_are_sealed_behind_it(profiles: Path, tmp_path: Path) -> None:
    """A turn that is done in time is all there, read or not; of another, all that was released, and why it ended."""
    settings = {
        "SHIELDMESH_ORCHESTRATOR_DRAIN_GRACE": "5",
        "SHIELDMESH_ORCHESTRATOR_TURN_LOG": str(tmp_path / "turns.db"),
    }
    with running(profiles=profiles, models=SCRIPTED_MODELS, environment=settings) as mesh:
        stub = chat_pb2_grpc.ChatServiceStub(channels.get(mesh.url))
        async with shieldmesh.connect(mesh.url) as client:
            async with client.chat("tell it", session="s", timeout=TIMEOUT) as unread:
                short = await anext(unread)
            assert isinstance(short, Started)
            await asyncio.to_thread(mesh.terminate, "orchestrator")
            await asyncio.to_thread(mesh.start, "orchestrator")
            record = await client.get_turn(short.turn_id, session="s", timeout=TIMEOUT)
            assert (record.state, record.text) == (TurnState.FINISHED, STORY)
            endless: list[chat_pb2.ChatEvent] = []
            reader = asyncio.create_task(read(stub.Chat, chat_request("endless"), endless))
            while len(endless) < 2:  # noqa: ASYNC110  # what comes is for the reader to tell, which only reads
                await asyncio.sleep(0.01)
            await asyncio.to_thread(mesh.terminate, "orchestrator")
            cut = await reader
            assert (type(cut), cut.reason) == (UnavailableError, "SERVICE_STOPPING")
            assert [(hop.service, hop.reason) for hop in cut.hops] == [
                ("gateway", "SERVICE_STOPPING"),
                ("orchestrator", "SERVICE_STOPPING"),
            ]
            await asyncio.to_thread(mesh.start, "orchestrator")
            again: list[chat_pb2.ChatEvent] = []
            sealed = await read(stub.Resume, chat_pb2.ResumeRequest(turn_id=endless[0].started.turn_id), again)
            assert again == endless
            assert (type(sealed), sealed.reason) == (UnavailableError, "SERVICE_STOPPING")


async def read(rpc: Any, request: Any, events: list[chat_pb2.ChatEvent]) -> MeshError:
    """Reads a turn, without going on where it breaks off, to the error that it must end with."""
    try:
        with context.use(RequestContext(session_id="s")):
            async with calls.stream(rpc, request, timeout=TIMEOUT) as stream:
                async for event in stream:
                    events.append(event)  # noqa: PERF401  # what came before an error counts
    except MeshError as error:
        return error
    pytest.fail("the turn came to a good end")


def chat_request(profile: str) -> chat_pb2.ChatRequest:
    asked = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.ContentPart(text="tell it")])
    return chat_pb2.ChatRequest(profile=profile, messages=[asked])


async def read_on(client: shieldmesh.Mesh, over: asyncio.Event) -> int:
    """Reads one turn after the other; how many."""
    turns = 0
    while not over.is_set():
        events = [event async for event in client.chat("tell it", timeout=TIMEOUT)]
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert text_of(events) == STORY
        assert isinstance(events[-1], Finished)
        turns += 1
    return turns


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))
