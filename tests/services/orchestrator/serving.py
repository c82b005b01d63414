"""The orchestrator in this process, over Unix sockets, between a shield and an inference service that are scripts."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from services.orchestrator.log.sqlite import open_sqlite
from services.orchestrator.running import running_turns
from services.orchestrator.servicer import ChatServicer
from services.orchestrator.services import Services
from services.orchestrator.sessions.opening import open_sessions
from services.orchestrator.sessions.servicer import SessionServicer
from shieldmesh import calls, channels
from shieldmesh.interceptors import INNER
from shieldmesh.interceptors.call import ServerIdentity
from shieldmesh.interceptors.server import MeshInterceptor
from shieldmesh.profile import Profile, Profiles
from shieldmesh.profile.policy import Policy
from shieldmesh.v1 import (
    chat_pb2,
    chat_pb2_grpc,
    generation_pb2,
    inference_pb2,
    inference_pb2_grpc,
    message_pb2,
    session_pb2_grpc,
    shield_pb2,
    shield_pb2_grpc,
)

TIMEOUT = 60.0
"""Seconds until a call of a test is given up."""
CALL_CAP = 3 * TIMEOUT
"""Seconds that a server allows: what a test waits for must not happen by this limit."""

Texts = AsyncIterator[shield_pb2.InspectStreamRequest]
Answers = AsyncGenerator[shield_pb2.InspectStreamResponse]
Asked = AsyncIterator[inference_pb2.GenerateRequest]
Generated = AsyncGenerator[inference_pb2.GenerateEvent]
Stub: TypeAlias = "chat_pb2_grpc.ChatServiceAsyncStub"  # exists for type checkers alone


async def passes(request: shield_pb2.InspectRequest) -> shield_pb2.InspectResponse:
    """Input shields that find nothing."""
    del request
    return shield_pb2.InspectResponse()


async def clears(requests: Texts) -> Answers:
    """Output shields that clear everything they see."""
    async for request in requests:
        if request.HasField("open"):
            yield opened()
        else:
            text = request.text
            seen = text.offset + len(text.text)
            yield cleared(seen, lane=text.lane)


def says(*deltas: generation_pb2.Delta | str) -> Callable[[Asked], Generated]:
    """A model that says this, each delta a token, and stops."""

    async def generate(requests: Asked) -> Generated:
        await anext(requests)
        yield begun()
        for delta in deltas:
            yield said(delta)
        yield ended(len(deltas))

    return generate


greets = says("hello")
"""A model that greets."""


@dataclass(kw_only=True)
class Script(shield_pb2_grpc.ShieldServiceServicer, inference_pb2_grpc.InferenceServiceServicer):
    """What the two services do."""

    inspect: Callable[[shield_pb2.InspectRequest], Awaitable[shield_pb2.InspectResponse]] = passes
    inspect_stream: Callable[[Texts], Answers] = clears
    generate: Callable[[Asked], Generated] = greets

    async def Inspect(  # noqa: N802  # the contract's name
        self, request: shield_pb2.InspectRequest, context: object
    ) -> shield_pb2.InspectResponse:
        del context
        return await self.inspect(request)

    def InspectStream(self, request_iterator: Texts, context: object) -> Answers:  # noqa: N802  # the contract's name
        del context
        return self.inspect_stream(aiter(request_iterator))

    def Generate(self, request_iterator: Asked, context: object) -> Generated:  # noqa: N802  # the contract's name
        del context
        return self.generate(aiter(request_iterator))

    async def ListShields(  # noqa: N802  # the contract's name
        self, request: shield_pb2.ListShieldsRequest, context: object
    ) -> shield_pb2.ListShieldsResponse:
        raise NotImplementedError

    async def ListModels(  # noqa: N802  # the contract's name
        self, request: inference_pb2.ListModelsRequest, context: object
    ) -> inference_pb2.ListModelsResponse:
        raise NotImplementedError


@asynccontextmanager
async def serving(
    script: Script,
    directory: Path,
    *profiles: Profile,
    window: int = 16_384,
    log_file: Path | None = None,
    backlog: int = 1_000_000,
    sessions: str = "",
    live: Callable[[], Profiles] | None = None,
) -> AsyncGenerator[Stub]:
    """A stub of an orchestrator with these profiles, or live ones, between the two services of the script."""
    fixed = Profiles({each.name: each for each in profiles})
    async with AsyncExitStack() as stack:

        async def serve(name: str) -> tuple[grpc.aio.Server, str]:
            around = MeshInterceptor(ServerIdentity(name, "test", CALL_CAP), INNER)
            server = grpc.aio.server(interceptors=[around])
            target = f"unix:{directory / name}.sock"
            server.add_insecure_port(target)
            stack.push_async_callback(around.wait_idle)
            stack.push_async_callback(server.stop, None)
            return server, target

        shield, shields = await serve("shield")
        shield_pb2_grpc.add_ShieldServiceServicer_to_server(script, shield)
        inference, models = await serve("inference")
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(script, inference)
        # As in a process of its own: the turns that are left end before what they call.
        stack.push_async_callback(channels.close)
        log = await stack.enter_async_context(open_sqlite(log_file, retention=3600.0, backlog=backlog))
        running = await stack.enter_async_context(running_turns(log))
        orchestrator, turns = await serve("orchestrator")
        services = Services(
            shields=shield_pb2_grpc.ShieldServiceStub(channels.get(shields)),
            models=inference_pb2_grpc.InferenceServiceStub(channels.get(models)),
            window=window,
        )
        store = await stack.enter_async_context(open_sessions(sessions, turn_retention=3600.0))
        servicer = ChatServicer(live or (lambda: fixed), services, running, store)
        chat_pb2_grpc.add_ChatServiceServicer_to_server(servicer, orchestrator)
        session_pb2_grpc.add_SessionServiceServicer_to_server(SessionServicer(store, running), orchestrator)
        for server in (shield, inference, orchestrator):
            await server.start()
        yield chat_pb2_grpc.ChatServiceStub(channels.get(turns))


async def run(stub: Stub, text: str = "hi", profile: str = "test") -> list[chat_pb2.ChatEvent]:
    """All events of a turn; sees that they are numbered from 1."""
    events: list[chat_pb2.ChatEvent] = []
    await collect(stub, events, text, profile)
    return events


async def collect(stub: Stub, into: list[chat_pb2.ChatEvent], text: str = "hi", profile: str = "test") -> None:
    """The same into a list of the caller's, which holds what came also when the turn fails."""
    request = chat_pb2.ChatRequest(profile=profile, messages=[message(text)])
    async with calls.stream(stub.Chat, request, timeout=TIMEOUT) as stream:
        async for event in stream:
            into.append(event)
            assert event.sequence == len(into)


def profile(name: str = "test", /, **policy: Any) -> Profile:
    """A profile with this policy."""
    return Profile(name, "0" * 12, Policy.model_validate({"model": "scripted", **policy}))


def guards(action: str = "redact") -> dict[str, Any]:
    """A way's shields: one, whose name is pii."""
    return {"shields": [{"type": "pii", "action": action}]}


def message(
    *parts: str, role: message_pb2.Role.ValueType = message_pb2.ROLE_USER, tool_call_id: str = ""
) -> message_pb2.Message:
    """A message; a user's, where nothing else is said."""
    return message_pb2.Message(
        role=role,
        parts=[message_pb2.ContentPart(text=part) for part in parts],
        tool_call_id=tool_call_id,
    )


def text_of(events: list[chat_pb2.ChatEvent]) -> str:
    """The text that the client got."""
    return "".join(event.delta.text for event in events)


def begun() -> inference_pb2.GenerateEvent:
    """The generation was admitted."""
    return inference_pb2.GenerateEvent(started=inference_pb2.GenerateStarted(model="scripted"))


def said(delta: generation_pb2.Delta | str) -> inference_pb2.GenerateEvent:
    """The model wrote."""
    if isinstance(delta, str):
        delta = generation_pb2.Delta(text=delta, token_count=1)
    return inference_pb2.GenerateEvent(delta=delta)


def ended(tokens: int, reason: str = "FINISH_REASON_STOP") -> inference_pb2.GenerateEvent:
    """The generation ended after so many tokens."""
    usage = generation_pb2.Usage(prompt_tokens=3, completion_tokens=tokens, total_tokens=3 + tokens)
    return inference_pb2.GenerateEvent(
        finished=inference_pb2.GenerateFinished(reason=generation_pb2.FinishReason.Value(reason), usage=usage)
    )


def opened() -> shield_pb2.InspectStreamResponse:
    """The shields are ready."""
    return shield_pb2.InspectStreamResponse(opened=shield_pb2.InspectOpened())


def cleared(watermark: int, **fields: Any) -> shield_pb2.InspectStreamResponse:
    """The shields clear a lane up to there."""
    fields = {"seen": watermark, **fields}
    return shield_pb2.InspectStreamResponse(clearance=shield_pb2.Clearance(watermark=watermark, **fields))


async def until_cancelled(note: asyncio.Event) -> None:
    """Waits for ever; notes that it was told to end."""
    try:
        await asyncio.Event().wait()
    finally:
        note.set()
