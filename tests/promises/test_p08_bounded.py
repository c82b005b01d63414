"""P8: a reader that stalls stops the producer, memory stays bounded, and what then happens is the profile's word."""

import asyncio
import json
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import grpc
import pytest

from benchmarks.processes import look
from services.orchestrator.log.sqlite import SqliteLog, open_sqlite
from services.orchestrator.mailbox import Mailbox
from services.orchestrator.merging import EVENTS
from services.orchestrator.running import running_turns
from services.orchestrator.turn import Turn
from shieldmesh import channels
from shieldmesh.context import RequestContext
from shieldmesh.errors import MeshError
from shieldmesh.profile.policy import Stall
from shieldmesh.v1 import chat_pb2, chat_pb2_grpc, generation_pb2, message_pb2
from tests.e2e import engine
from tests.e2e import mesh as processes

from .jitter import shake
from .mesh import TIMEOUT, eventually, running, tasks_at_work
from .observing import Observed, observed

STALLED: Final = 500
"""Clients that stop reading, at one gateway."""
MOST: Final = 256 * 1024
"""Bytes of memory that a stalled stream may cost any one process, all that an open stream costs anyway included."""

PIECE: Final = "x" * 4_095 + "\n"
PIECES: Final = 250
STORY: Final = PIECE * PIECES
"""Far more than all windows on the way to a client take in."""
STORIES: Final[dict[str, Any]] = {
    "name": "stories",
    "backend": "replay",
    "max_running": 2 * STALLED,
    "options": {"text": STORY, "cut": "words"},
}
CHAT: Final = chat_pb2.ChatRequest(
    messages=[message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.ContentPart(text="go")])]
)
Stub: TypeAlias = "chat_pb2_grpc.ChatServiceAsyncStub"  # exists for type checkers alone


@asynccontextmanager
async def reluctant(target: str) -> AsyncGenerator[Stub]:
    """A client whose own windows are small, so that what it does not read waits in the mesh."""
    options = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 4_096))
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        yield chat_pb2_grpc.ChatServiceStub(channel)


async def rest_of(call: Any) -> list[chat_pb2.ChatEvent]:
    """What a reader that comes back reads."""
    return [event async for event in call]


def text_of(events: list[chat_pb2.ChatEvent]) -> str:
    return "".join(event.delta.text for event in events)


def numbers_of(events: list[chat_pb2.ChatEvent]) -> list[int]:
    return [event.sequence for event in events]


def told(seen: Observed) -> int:
    """How often it was said that a caller stalls."""
    return sum(line["event"] == "caller stalled" for line in seen.warnings())


def stalls(after: float, then: str) -> dict[str, Any]:
    return {"default": {"model": "stories", "stall": {"after": after, "then": then}}}


async def test_a_stalled_reader_stops_its_engine_and_misses_nothing(tmp_path: Path) -> None:
    """The engine stands still, no more than the windows ahead, while others go on; a reader that returns gets all."""
    with observed() as seen:
        async with running(tmp_path, profiles=stalls(0.2, "pause"), models={"models": [STORIES]}) as mesh:
            async with reluctant(mesh.target("gateway")) as stub:
                stalled = [stub.Chat(CHAT, timeout=3 * TIMEOUT) for _ in range(8)]
                await eventually(lambda: told(seen) >= len(stalled))
                async with mesh.client as client:
                    assert await client.chat("go", timeout=TIMEOUT).text() == STORY
                stories = mesh.model("stories")
                assert stories.admission.running == len(stalled)
                ahead = stories.backend.generated_tokens - PIECES
                assert ahead * len(PIECE) <= len(stalled) * MOST
                for events in await asyncio.gather(*map(rest_of, stalled)):
                    assert text_of(events) == STORY
                    assert numbers_of(events) == list(range(1, len(events) + 1))
            await mesh.idle()
            await eventually(lambda: not tasks_at_work())


@pytest.mark.parametrize("then", ["detach", "cancel"])
async def test_a_turn_that_nobody_reads_gives_its_place_back(tmp_path: Path, then: str) -> None:
    """With one place at the model, the next turn gets it though the first is never read; that one is in the log."""
    models = {"models": [{**STORIES, "max_running": 1}]}
    async with running(tmp_path, profiles=stalls(0.2, then), models=models) as mesh:
        async with reluctant(mesh.target("gateway")) as stub, mesh.client as client:
            stalled = stub.Chat(CHAT, timeout=3 * TIMEOUT)
            await eventually(lambda: mesh.model("stories").admission.running == 1)
            assert await client.chat("go", timeout=TIMEOUT).text() == STORY
            assert mesh.model("stories").admission.running == 0
            events = await rest_of(stalled)
        assert numbers_of(events) == list(range(1, len(events) + 1))
        finished = events[-1].finished
        if then == "detach":
            assert text_of(events) == STORY
            assert finished.reason == generation_pb2.FINISH_REASON_STOP
        else:
            assert STORY.startswith(text_of(events))
            assert text_of(events) != STORY
            assert finished.reason == generation_pb2.FINISH_REASON_CANCELLED
        await mesh.idle()
        await eventually(lambda: not tasks_at_work())


async def test_a_stalled_caller_that_leaves_ends_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also behind a stall, a caller that goes away ends a turn whose `disconnect` is cancel, once."""
    ends: list[str] = []
    seal = SqliteLog.seal

    def note(log: SqliteLog, turn: str, error: MeshError | None = None) -> None:
        ends.append(turn)
        seal(log, turn, error)

    monkeypatch.setattr(SqliteLog, "seal", note)
    slow = {**STORIES, "options": {"pieces": ["x" * 32_768] * 2_000, "pace": 50}}
    with observed() as seen:
        async with running(tmp_path, profiles=stalls(0.1, "detach"), models={"models": [slow]}) as mesh:
            async with reluctant(mesh.target("gateway")) as stub:
                stalled = stub.Chat(CHAT, timeout=3 * TIMEOUT)
                await eventually(lambda: told(seen) == 1)
                stalled.cancel()
                await mesh.idle()
            assert mesh.generated() < 2_000
            assert len(ends) == 1
            await eventually(lambda: not tasks_at_work())


class Story:
    """What `RunningTurn` needs of a turn: one that says numbers."""

    def __init__(self, length: int) -> None:
        self.identity = RequestContext(request_id="turn", session_id="s")
        self.patience = 0.0
        self.stall = Stall.model_construct(after=0.0, then="detach")
        self.outbox = Mailbox(EVENTS, 64)
        self._length = length

    async def run(self) -> None:
        for number in range(self._length):
            self.outbox.put(chat_pb2.ChatEvent(delta=generation_pb2.Delta(text=f"{number} ")))
            await self.outbox.room()
        self.outbox.put(chat_pb2.ChatEvent(finished=chat_pb2.TurnFinished()))

    async def take(self) -> chat_pb2.ChatEvent | None:
        return await self.outbox.take()

    def close(self) -> None:
        self.outbox.close()


@pytest.mark.parametrize("seed", range(20))
async def test_from_the_turn_to_the_log_without_gap_or_double(seed: int) -> None:
    """A reader that stalls at any moment, as the loop may have it, sees each event once and in order."""
    story = Story(100)
    async with open_sqlite(None, retention=60.0, backlog=1_000_000) as log, running_turns(log) as turns:
        shake(asyncio.get_running_loop(), seed)
        events: list[chat_pb2.ChatEvent] = []
        async with asyncio.timeout(TIMEOUT):
            async for event in turns.start(cast("Turn", story)).events():
                events.append(chat_pb2.ChatEvent.FromString(event.SerializeToString()))
                for _ in range(seed % 5):
                    await asyncio.sleep(0)
    assert numbers_of(events) == list(range(1, len(events) + 1))
    assert text_of(events) == "".join(f"{number} " for number in range(100))
    assert events[-1].HasField("finished")


@pytest.fixture
def own_mesh(tmp_path: Path) -> Generator[processes.Mesh]:
    """Real processes whose model tells stories."""
    (tmp_path / "models.yaml").write_text(json.dumps({"models": [STORIES]}))
    (profiles := tmp_path / "profiles").mkdir()
    for name, policy in stalls(1.0, "pause").items():
        (profiles / f"{name}.yaml").write_text(json.dumps(policy))
    with processes.running(profiles=profiles, models=tmp_path / "models.yaml") as mesh:
        yield mesh


async def test_five_hundred_clients_that_stop_reading(own_mesh: processes.Mesh) -> None:
    """Each process stays under its bound, a turn beside them is answered in full, and who reads again gets all."""
    pids = {name: own_mesh.pid(name) for name in ("gateway", "orchestrator", "shield", "inference")}
    patience = 10 * engine.TIMEOUT
    async with reluctant(own_mesh.targets["gateway"]) as stub:
        assert text_of(await rest_of(stub.Chat(CHAT, timeout=patience))) == STORY
        before = look(pids).resident
        stalled = [stub.Chat(CHAT, timeout=patience) for _ in range(STALLED)]
        generated, last = 0, -1
        while generated != last or own_mesh.log("orchestrator").count("caller stalled") < STALLED:
            await asyncio.sleep(0.5)
            last, generated = generated, (await engine.model(own_mesh, "stories")).generated_tokens
        after = look(pids).resident
        grown = {name: after[name] - before[name] for name in pids}
        assert max(grown.values()) <= STALLED * MOST, grown
        assert generated * len(PIECE) <= (STALLED + 1) * MOST + len(STORY)
        assert (await engine.model(own_mesh, "stories")).running == STALLED
        assert text_of(await rest_of(stub.Chat(CHAT, timeout=patience))) == STORY
        for call in stalled[:3]:
            assert text_of(await rest_of(call)) == STORY
        for call in stalled:
            call.cancel()
        await engine.until(own_mesh, "stories", lambda model: model.running == 0)
    await channels.close()
