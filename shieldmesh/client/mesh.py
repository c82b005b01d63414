"""The client of a mesh."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar
from weakref import WeakSet

import grpc

from shieldmesh import calls, channels, context
from shieldmesh.client import sessions, wire
from shieldmesh.client.conversation import Message, Sampling, Tool
from shieldmesh.client.events import TurnRecord
from shieldmesh.client.reach import explain
from shieldmesh.client.reconnect import DEFAULT_RECONNECT, Acquaintance, Reading, Reconnect
from shieldmesh.client.request import (
    DEFAULT_TIMEOUT,
    AnyCall,
    Call,
    Disconnect,
    History,
    build_call,
    resume_call,
    wrap_call,
)
from shieldmesh.client.sessions import SessionRecord, SessionTurn
from shieldmesh.client.turn import Turn
from shieldmesh.client.url import DEFAULT_URL, parse_url
from shieldmesh.errors import MeshError
from shieldmesh.v1 import chat_pb2, chat_pb2_grpc, session_pb2_grpc

Q = TypeVar("Q")
A = TypeVar("A")


def connect(url: str = DEFAULT_URL, *, reconnect: Reconnect | None = DEFAULT_RECONNECT) -> "Mesh":
    """A client of the mesh at `url`: `mesh://host:port`, `meshs://…` (with TLS), `host:port` or `unix:/path`.

    `meshs://host:port?ca=/path/to/ca.pem` trusts the authorities of that file instead of the system's.

    Nothing is sent before the first turn is read. All clients of one event loop share one connection to the same
    mesh, which the loop closes at its end; the client itself may be used under one loop after the other.

        async with shieldmesh.connect() as mesh:
            async for event in mesh.chat("Why is the sky blue?"):
                ...

    Args:
        url: Where it is.
        reconnect: How turns go on when their connection breaks: each event still comes once and in order, and
            `Reconnected` tells of it. A turn that had not begun is asked for again, under a key and a session id of its
            own, so that it does not run twice. None: a connection that breaks ends the turn with an UnavailableError.

    Raises:
        ValueError: `url` names no mesh.
    """
    return Mesh(parse_url(url), reconnect)


class Mesh:
    """A mesh to talk to; see `connect`.

    Attributes:
        target: Where it is, as `shieldmesh.channels` takes it.
    """

    def __init__(self, target: str, reconnect: Reconnect | None = DEFAULT_RECONNECT) -> None:
        self.target = target
        self._reconnect = reconnect
        self._acquaintance = Acquaintance()
        self._turns: WeakSet[Turn] = WeakSet()

    def chat(
        self,
        prompt: str | Sequence[Message],
        *,
        profile: str = "",
        session: str = "",
        tools: Sequence[Tool] = (),
        sampling: Sampling | None = None,
        disconnect: Disconnect | str | None = None,
        history: History | str | None = None,
        idempotency_key: str = "",
        variables: Mapping[str, str] | None = None,
        values: Mapping[str, str] | None = None,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> Turn:
        """One turn, which begins when its first event is asked for.

        Args:
            prompt: What the user says, or the whole conversation.
            profile: The policy to use; "" means "default".
            session: The conversation this turn belongs to: 1 to 128 of [A-Za-z0-9._:-]. Without one it is a new one.
            tools: Functions that the model may call.
            sampling: Overrides of the profile's sampling.
            disconnect: What becomes of the turn when its reader goes away, where the profile lets callers say it.
            history: Whether the mesh keeps the conversation, where the profile lets callers say it; then `prompt` is
                what is new.
            idempotency_key: Makes it safe to ask again, in another process, too: 1 to 128 of [A-Za-z0-9._:-]. The same
                key in the same session stands for one turn.
            variables: What the profile's prompt says of this turn, by the names that the profile declares.
            values: Session values that the gateway lets callers set; they reach every service of the turn.
            timeout: Seconds the whole turn may take; None leaves it to the gateway.

        Raises:
            InvalidArgumentError: a value cannot be sent; `field` names it.
        """
        call = build_call(
            prompt,
            profile=profile,
            session=session,
            tools=tools,
            sampling=sampling,
            disconnect=disconnect,
            history=history,
            idempotency_key=idempotency_key,
            variables=variables,
            values=values,
            timeout=timeout,
        )
        return self._turn(call)

    def run(self, request: chat_pb2.ChatRequest, *, session: str = "", timeout: float | None = DEFAULT_TIMEOUT) -> Turn:
        """One turn from a request of the contract itself, for what `chat` has no argument for, such as a format.

        Raises:
            InvalidArgumentError: the session id or the timeout is none.
        """
        return self._turn(wrap_call(request, session=session, timeout=timeout))

    def resume(
        self, turn_id: str, *, after: int = 0, session: str = "", timeout: float | None = DEFAULT_TIMEOUT
    ) -> Turn:
        """The rest of a turn that began in another call: what was released after an event, then what comes.

        Leaving it changes nothing about the turn.

        Args:
            turn_id: `Started.turn_id`.
            after: The `sequence` of the last event you have; 0 for all events.
            session: The turn's session, `Started.session_id`: where nobody is authenticated, only it knows the turn.
            timeout: Seconds the reading may take; None leaves it to the gateway.

        Raises:
            InvalidArgumentError: a value cannot be sent; `field` names it.
        """
        return self._turn(resume_call(turn_id, after=after, session=session, timeout=timeout))

    async def get_turn(self, turn_id: str, *, session: str = "", timeout: float | None = DEFAULT_TIMEOUT) -> TurnRecord:
        """What there is of a turn at this moment; arguments as for `resume`.

        Raises:
            NotFoundError: there is no such turn for this caller, or its time in the log is over.
            MeshError: the mesh could not do its job.
        """
        call = wrap_call(chat_pb2.GetTurnRequest(turn_id=turn_id), session=session, timeout=timeout)
        return wire.record(await self._ask(lambda channel: chat_pb2_grpc.ChatServiceStub(channel).GetTurn, call))

    async def cancel_turn(self, turn_id: str, *, session: str = "", timeout: float | None = DEFAULT_TIMEOUT) -> None:
        """Ends a turn, whoever reads it; returns when nothing is generated any more. Arguments as for `resume`.

        Raises:
            NotFoundError: there is no such turn for this caller, or its time in the log is over.
            MeshError: the mesh could not do its job.
        """
        call = wrap_call(chat_pb2.CancelTurnRequest(turn_id=turn_id), session=session, timeout=timeout)
        await self._ask(lambda channel: chat_pb2_grpc.ChatServiceStub(channel).CancelTurn, call)

    async def get_session(self, session: str, *, timeout: float | None = DEFAULT_TIMEOUT) -> SessionRecord:
        """What is known of a session whose history the mesh keeps.

        Raises:
            NotFoundError: there is no such session for this caller, or its time is over.
            MeshError: the mesh could not do its job.
        """
        call = sessions.get_call(session, timeout)
        answer = await self._ask(lambda channel: session_pb2_grpc.SessionServiceStub(channel).GetSession, call)
        return sessions.record(answer.session)

    async def list_sessions(
        self, *, session: str = "", timeout: float | None = DEFAULT_TIMEOUT
    ) -> AsyncGenerator[SessionRecord]:
        """The sessions of the caller's tenant, by id; where nobody is authenticated, `session` alone.

        Raises:
            MeshError: the mesh could not do its job.
        """
        token: str | None = ""
        while token is not None:
            call = sessions.list_call(token, session, timeout)
            page = await self._ask(lambda channel: session_pb2_grpc.SessionServiceStub(channel).ListSessions, call)
            for each in page.sessions:
                yield sessions.record(each)
            token = page.next_page_token or None

    async def list_session_turns(
        self, session: str, *, timeout: float | None = DEFAULT_TIMEOUT
    ) -> AsyncGenerator[SessionTurn]:
        """The turns that are kept of a session, oldest first.

        Raises:
            NotFoundError: there is no such session for this caller, or its time is over.
            MeshError: the mesh could not do its job.
        """
        token: str | None = ""
        while token is not None:
            call = sessions.turns_call(session, token, timeout)
            page = await self._ask(lambda channel: session_pb2_grpc.SessionServiceStub(channel).ListTurns, call)
            for each in page.turns:
                yield sessions.turn(each)
            token = page.next_page_token or None

    async def delete_session(self, session: str, *, timeout: float | None = DEFAULT_TIMEOUT) -> None:
        """Deletes a session with all that is kept of it; turns of it that run are stopped.

        Raises:
            NotFoundError: there is no such session for this caller, or its time is over.
            MeshError: the mesh could not do its job.
        """
        call = sessions.delete_call(session, timeout)
        await self._ask(lambda channel: session_pb2_grpc.SessionServiceStub(channel).DeleteSession, call)

    async def aclose(self) -> None:
        """Cancels the turns of this client that still run."""
        for turn in list(self._turns):
            await turn.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _ask(
        self,
        method: "Callable[[grpc.aio.Channel], grpc.aio.UnaryUnaryMultiCallable[Q, A]]",
        call: Call[Q],
    ) -> A:
        rpc = method(channels.get(self.target))
        try:
            with context.use(call.identity):
                return await calls.unary(rpc, call.request, timeout=call.timeout)
        except MeshError as error:
            raise explain(error, self.target, 0) from None

    def _turn(self, call: AnyCall) -> Turn:
        turn = Turn(self.target, Reading(call, self._reconnect, self._acquaintance))
        self._turns.add(turn)
        return turn
