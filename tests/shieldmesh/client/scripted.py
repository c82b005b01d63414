"""A gateway that says what it is told to, over real gRPC on a Unix socket."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc

from shieldmesh import errors
from shieldmesh.errors import Hop, MeshError
from shieldmesh.v1 import chat_pb2, chat_pb2_grpc, generation_pb2, policy_pb2
from tests.shieldmesh.serving import OnlyChat

Context = grpc.aio.ServicerContext[chat_pb2.ChatRequest, chat_pb2.ChatEvent]


class ScriptedChat(OnlyChat):
    """Streams the given events, then ends, fails with `error`, or waits for a cancellation.

    Attributes:
        requests: What was asked.
        metadata: What came with it.
        ended: Set when no handler runs any more.
    """

    def __init__(
        self, events: Sequence[chat_pb2.ChatEvent], *, error: MeshError | None = None, wait: bool = False
    ) -> None:
        self._events = events
        self._error = error
        self._wait = wait
        self._running = 0
        self.requests: list[chat_pb2.ChatRequest] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self.ended = asyncio.Event()

    async def Chat(  # noqa: N802  # the contract's name
        self, request: chat_pb2.ChatRequest, context: Context
    ) -> AsyncIterator[chat_pb2.ChatEvent]:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata() or ()))
        self._running += 1
        try:
            for event in self._events:
                yield event
            if self._error is not None:
                details = errors.to_status(self._error).SerializeToString()
                await context.abort(self._error.code, "", ((errors.STATUS_DETAILS_KEY, details),))
            if self._wait:
                await asyncio.Event().wait()
        finally:
            self._running -= 1
            if not self._running:
                self.ended.set()


@asynccontextmanager
async def serving(chat: ScriptedChat) -> AsyncGenerator[str]:
    """Serves `chat`; the value is its URL."""
    server = grpc.aio.server()
    chat_pb2_grpc.add_ChatServiceServicer_to_server(chat, server)
    with tempfile.TemporaryDirectory(prefix="sm-") as directory:
        url = f"unix:{Path(directory) / 'mesh.sock'}"
        server.add_insecure_port(url)
        await server.start()
        try:
            yield url
        finally:
            await server.stop(None)


def started() -> chat_pb2.ChatEvent:
    return chat_pb2.ChatEvent(
        sequence=1,
        started=chat_pb2.TurnStarted(
            turn_id="turn-1",
            session_id="s-1",
            profile="default",
            profile_version="v1",
            model="echo",
            trace_id="ab" * 16,
        ),
    )


def delta(sequence: int, text: str) -> chat_pb2.ChatEvent:
    return chat_pb2.ChatEvent(sequence=sequence, delta=generation_pb2.Delta(text=text, token_count=1))


def redacted(sequence: int) -> chat_pb2.ChatEvent:
    return chat_pb2.ChatEvent(
        sequence=sequence,
        verdict=policy_pb2.Verdict(
            shield="pii",
            direction=policy_pb2.DIRECTION_OUTPUT,
            action=policy_pb2.ACTION_REDACT,
            findings=[policy_pb2.Finding(kind="payment_card", start=11, end=30, score=1.0)],
        ),
    )


def finished(sequence: int) -> chat_pb2.ChatEvent:
    return chat_pb2.ChatEvent(
        sequence=sequence,
        finished=chat_pb2.TurnFinished(
            reason=generation_pb2.FINISH_REASON_STOP,
            usage=generation_pb2.Usage(prompt_tokens=3, completion_tokens=2, total_tokens=5),
            receipt=chat_pb2.Receipt(
                generated_characters=11,
                released_characters=11,
                output_shields=["pii"],
                holds=[chat_pb2.Hold(shield="pii", most_characters=5, time=errors.duration(0.5))],
            ),
            timings=chat_pb2.Timings(first_token=errors.duration(0.25), total=errors.duration(1.5)),
        ),
    )


def hello() -> list[chat_pb2.ChatEvent]:
    """A whole turn that says "Hello world"."""
    return [started(), delta(2, "Hello"), delta(3, " world"), finished(4)]


def engine_failure() -> MeshError:
    """A failure two hops away."""
    path = [Hop("gateway", "shieldmesh.v1.ChatService/Chat", "gw-1"), Hop("inference", "Generate", "inf-1")]
    return errors.InternalError("the engine failed", reason="ENGINE_FAILED", hops=path)
