"""Conversations with an orchestrator whose model notes what it is shown."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shieldmesh import calls, channels, context
from shieldmesh.context import RequestContext
from shieldmesh.v1 import (
    chat_pb2,
    generation_pb2,
    inference_pb2,
    message_pb2,
    session_pb2,
    session_pb2_grpc,
)
from tests.services.orchestrator.serving import (
    TIMEOUT,
    Asked,
    Generated,
    Script,
    Stub,
    begun,
    ended,
    message,
    profile,
    said,
    serving,
)

KEEP = {"history": {"mode": "keep"}}
SYSTEM, ASSISTANT, TOOL = message_pb2.ROLE_SYSTEM, message_pb2.ROLE_ASSISTANT, message_pb2.ROLE_TOOL
Turn = Sequence[message_pb2.Message] | str
Says = Callable[[inference_pb2.GenerateOpen], Sequence[generation_pb2.Delta | str]]


def counts(opening: inference_pb2.GenerateOpen) -> Sequence[str]:
    """Says how many messages it was shown."""
    return ["shown ", str(len(opening.messages))]


@dataclass
class Model:
    """Notes what it is shown, and answers."""

    says: Says = counts
    shown: list[inference_pb2.GenerateOpen] = field(default_factory=list[inference_pb2.GenerateOpen])

    async def generate(self, requests: Asked) -> Generated:
        opening = (await anext(requests)).open
        self.shown.append(opening)
        yield begun()
        deltas = self.says(opening)
        for delta in deltas:
            yield said(delta)
        calls_tools = any(not isinstance(delta, str) and delta.HasField("tool_call") for delta in deltas)
        yield ended(len(deltas), "FINISH_REASON_TOOL_CALLS" if calls_tools else "FINISH_REASON_STOP")

    def last(self) -> list[tuple[str, str]]:
        """What it was shown last, as roles and texts."""
        return said_in(self.shown[-1].messages)


def said_in(messages: Sequence[message_pb2.Message]) -> list[tuple[str, str]]:
    return [
        (message_pb2.Role.Name(each.role).removeprefix("ROLE_").lower(), "".join(part.text for part in each.parts))
        for each in messages
    ]


async def talk(
    stub: Stub, turn: Turn, *, session: str = "s", tenant: str = "", name: str = "test", **fields: Any
) -> list[chat_pb2.ChatEvent]:
    """All events of a turn of a session."""
    messages = [message(turn)] if isinstance(turn, str) else turn
    request = chat_pb2.ChatRequest(profile=name, messages=messages, **fields)
    with context.use(RequestContext(session_id=session, tenant_id=tenant)):
        async with calls.stream(stub.Chat, request, timeout=TIMEOUT) as stream:
            return [event async for event in stream]


def sessions_of(directory: Path) -> "session_pb2_grpc.SessionServiceAsyncStub":
    return session_pb2_grpc.SessionServiceStub(channels.get(f"unix:{directory / 'orchestrator.sock'}"))


async def ask(rpc: Any, request: Any, *, session: str = "s", tenant: str = "") -> Any:
    with context.use(RequestContext(session_id=session, tenant_id=tenant)):
        return await calls.unary(rpc, request, timeout=TIMEOUT)


async def kept(directory: Path, session: str = "s", tenant: str = "") -> list[list[tuple[str, str]]]:
    """What is kept of a session, by turn."""
    request = session_pb2.ListTurnsRequest(session_id=session)
    answer = await ask(sessions_of(directory).ListTurns, request, session=session, tenant=tenant)
    return [said_in(turn.messages) for turn in answer.turns]


def bytes_in(directory: Path) -> bytes:
    """All that is in the databases, deleted or not."""
    return b"".join(file.read_bytes() for file in directory.glob("*.db*"))


@asynccontextmanager
async def model(directory: Path, *, says: Says = counts, **more: Any) -> AsyncGenerator[tuple[Stub, Model]]:
    """An orchestrator with a profile that keeps histories, and the model behind it."""
    playing = Model(says)
    async with serving(Script(generate=playing.generate), directory, profile(**KEEP), **more) as stub:
        yield stub, playing
