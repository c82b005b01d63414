"""The client for code without an event loop.

It stands on gRPC's own blocking calls instead of a loop in a hidden thread: those wake up for Ctrl-C, may be made from
any thread, are cancelled when they are dropped, and leave nothing that could hold up the interpreter's exit.
"""

from collections.abc import Generator, Mapping, Sequence
from types import TracebackType
from typing import Self

from shieldmesh.client import sessions, wire
from shieldmesh.client.conversation import Message, Sampling, Tool
from shieldmesh.client.events import TurnRecord
from shieldmesh.client.line import Line
from shieldmesh.client.reconnect import DEFAULT_RECONNECT, Acquaintance, Reading, Reconnect
from shieldmesh.client.request import (
    DEFAULT_TIMEOUT,
    AnyCall,
    Disconnect,
    History,
    build_call,
    resume_call,
    wrap_call,
)
from shieldmesh.client.sessions import SessionRecord, SessionTurn
from shieldmesh.client.sync_turn import SyncTurn
from shieldmesh.client.url import DEFAULT_URL, parse_url
from shieldmesh.v1 import chat_pb2, chat_pb2_grpc, session_pb2_grpc


def connect_sync(url: str = DEFAULT_URL, *, reconnect: Reconnect | None = DEFAULT_RECONNECT) -> "SyncMesh":
    """A blocking client of the mesh at `url`, for any number of threads; arguments as for `shieldmesh.connect`.

        with shieldmesh.connect_sync() as mesh:
            for event in mesh.chat("Why is the sky blue?"):
                ...

    Raises:
        ValueError: `url` names no mesh.
    """
    return SyncMesh(parse_url(url), reconnect)


class SyncMesh:
    """A mesh to talk to; see `connect_sync`.

    Attributes:
        target: Where it is, in gRPC's notation.
    """

    def __init__(self, target: str, reconnect: Reconnect | None = DEFAULT_RECONNECT) -> None:
        self.target = target
        self._reconnect = reconnect
        self._acquaintance = Acquaintance()
        self._line = Line(target)

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
    ) -> SyncTurn:
        """One turn, which begins when its first event is asked for; arguments as for `Mesh.chat`.

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

    def run(
        self, request: chat_pb2.ChatRequest, *, session: str = "", timeout: float | None = DEFAULT_TIMEOUT
    ) -> SyncTurn:
        """One turn from a request of the contract itself; see `Mesh.run`.

        Raises:
            InvalidArgumentError: the session id or the timeout is none.
        """
        return self._turn(wrap_call(request, session=session, timeout=timeout))

    def resume(
        self, turn_id: str, *, after: int = 0, session: str = "", timeout: float | None = DEFAULT_TIMEOUT
    ) -> SyncTurn:
        """The rest of a turn that began in another call; see `Mesh.resume`.

        Raises:
            InvalidArgumentError: a value cannot be sent; `field` names it.
        """
        return self._turn(resume_call(turn_id, after=after, session=session, timeout=timeout))

    def get_turn(self, turn_id: str, *, session: str = "", timeout: float | None = DEFAULT_TIMEOUT) -> TurnRecord:
        """What there is of a turn at this moment; see `Mesh.get_turn`.

        Raises:
            MeshError: as of `Mesh.get_turn`.
        """
        call = wrap_call(chat_pb2.GetTurnRequest(turn_id=turn_id), session=session, timeout=timeout)
        method = "ChatService/GetTurn"
        return wire.record(self._line.ask(method, lambda channel: chat_pb2_grpc.ChatServiceStub(channel).GetTurn, call))

    def cancel_turn(self, turn_id: str, *, session: str = "", timeout: float | None = DEFAULT_TIMEOUT) -> None:
        """Ends a turn, whoever reads it; see `Mesh.cancel_turn`.

        Raises:
            MeshError: as of `Mesh.cancel_turn`.
        """
        call = wrap_call(chat_pb2.CancelTurnRequest(turn_id=turn_id), session=session, timeout=timeout)
        method = "ChatService/CancelTurn"
        self._line.ask(method, lambda channel: chat_pb2_grpc.ChatServiceStub(channel).CancelTurn, call)

    def get_session(self, session: str, *, timeout: float | None = DEFAULT_TIMEOUT) -> SessionRecord:
        """What is known of a session; see `Mesh.get_session`.

        Raises:
            MeshError: as of `Mesh.get_session`.
        """
        method, call = "SessionService/GetSession", sessions.get_call(session, timeout)
        answer = self._line.ask(method, lambda channel: session_pb2_grpc.SessionServiceStub(channel).GetSession, call)
        return sessions.record(answer.session)

    def list_sessions(self, *, session: str = "", timeout: float | None = DEFAULT_TIMEOUT) -> Generator[SessionRecord]:
        """The sessions of the caller; see `Mesh.list_sessions`.

        Raises:
            MeshError: as of `Mesh.list_sessions`.
        """
        token: str | None = ""
        while token is not None:
            method, call = "SessionService/ListSessions", sessions.list_call(token, session, timeout)
            page = self._line.ask(
                method, lambda channel: session_pb2_grpc.SessionServiceStub(channel).ListSessions, call
            )
            yield from map(sessions.record, page.sessions)
            token = page.next_page_token or None

    def list_session_turns(self, session: str, *, timeout: float | None = DEFAULT_TIMEOUT) -> Generator[SessionTurn]:
        """The turns that are kept of a session; see `Mesh.list_session_turns`.

        Raises:
            MeshError: as of `Mesh.list_session_turns`.
        """
        token: str | None = ""
        while token is not None:
            method, call = "SessionService/ListTurns", sessions.turns_call(session, token, timeout)
            page = self._line.ask(method, lambda channel: session_pb2_grpc.SessionServiceStub(channel).ListTurns, call)
            yield from map(sessions.turn, page.turns)
            token = page.next_page_token or None

    def delete_session(self, session: str, *, timeout: float | None = DEFAULT_TIMEOUT) -> None:
        """Deletes a session; see `Mesh.delete_session`.

        Raises:
            MeshError: as of `Mesh.delete_session`.
        """
        method, call = "SessionService/DeleteSession", sessions.delete_call(session, timeout)
        self._line.ask(method, lambda channel: session_pb2_grpc.SessionServiceStub(channel).DeleteSession, call)

    def close(self) -> None:
        """Cancels the turns that still run, whichever thread reads them, and closes the connection."""
        self._line.close()

    def _turn(self, call: AnyCall) -> SyncTurn:
        return SyncTurn(self._line, Reading(call, self._reconnect, self._acquaintance))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
