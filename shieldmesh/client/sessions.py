"""Sessions whose history the mesh keeps, as the client shows them."""

from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from shieldmesh.client import wire
from shieldmesh.client.conversation import Message, message_from_wire
from shieldmesh.client.events import Usage
from shieldmesh.client.request import Call, wrap_call
from shieldmesh.v1 import session_pb2


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """What is known of a session."""

    session_id: str
    created_at: datetime
    used_at: datetime
    expires_at: datetime
    """When it is deleted unless it is used again."""
    turns: int
    """How many are kept."""


@dataclass(frozen=True, slots=True)
class SessionTurn:
    """One turn of a session as it is kept: what was new in the request, and the answer at the end."""

    turn_id: str
    profile: str
    profile_version: str
    ended_at: datetime
    messages: tuple[Message, ...]
    usage: Usage


def get_call(session: str, timeout: float | None) -> Call[session_pb2.GetSessionRequest]:
    """The call that asks about a session."""
    return wrap_call(session_pb2.GetSessionRequest(session_id=session), session=session, timeout=timeout)


def list_call(token: str, session: str, timeout: float | None) -> Call[session_pb2.ListSessionsRequest]:
    """The call that asks for a page of sessions."""
    return wrap_call(session_pb2.ListSessionsRequest(page_token=token), session=session, timeout=timeout)


def turns_call(session: str, token: str, timeout: float | None) -> Call[session_pb2.ListTurnsRequest]:
    """The call that asks for a page of a session's turns."""
    request = session_pb2.ListTurnsRequest(session_id=session, page_token=token)
    return wrap_call(request, session=session, timeout=timeout)


def delete_call(session: str, timeout: float | None) -> Call[session_pb2.DeleteSessionRequest]:
    """The call that deletes a session."""
    return wrap_call(session_pb2.DeleteSessionRequest(session_id=session), session=session, timeout=timeout)


def record(session: session_pb2.Session) -> SessionRecord:
    """What is known of a session."""
    return SessionRecord(
        session_id=session.session_id,
        created_at=_time(session.created_at),
        used_at=_time(session.used_at),
        expires_at=_time(session.expires_at),
        turns=session.turns,
    )


def turn(kept: session_pb2.SessionTurn) -> SessionTurn:
    """A turn as it is kept."""
    return SessionTurn(
        turn_id=kept.turn_id,
        profile=kept.profile,
        profile_version=kept.profile_version,
        ended_at=_time(kept.ended_at),
        messages=tuple(map(message_from_wire, kept.messages)),
        usage=wire.usage(kept.usage),
    )


def _time(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(UTC)
