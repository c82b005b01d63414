"""What a client asks of a mesh."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, Generic, TypeAlias, TypeVar

from shieldmesh import context
from shieldmesh.client.conversation import (
    Message,
    Role,
    Sampling,
    Tool,
    message_to_wire,
    sampling_to_wire,
    tool_to_wire,
    unicode,
)
from shieldmesh.context import ID_PATTERN, RequestContext
from shieldmesh.errors import InvalidArgumentError
from shieldmesh.v1 import chat_pb2

DEFAULT_TIMEOUT: Final = 300.0
"""Seconds that a whole turn may take when the caller says nothing else."""


class Disconnect(StrEnum):
    """What becomes of a turn whose reader goes away, or whose timeout passes, before it has ended."""

    CANCEL = "cancel"
    """It ends, and the engine stops."""
    DRAIN = "drain"
    """It goes on until the timeout."""
    DETACH = "detach"
    """It goes on for as long as its profile allows."""


class History(StrEnum):
    """Who keeps the history of a conversation."""

    NONE = "none"
    """The caller: each request brings all of it."""
    KEEP = "keep"
    """The mesh, under the session's id: a request brings what is new."""


Q = TypeVar("Q")


@dataclass(frozen=True, slots=True)
class Call(Generic[Q]):
    """A request, under whose identity it is made, and the seconds it may take (None: the gateway's cap)."""

    request: Q = field(repr=False)  # what people say belongs in no log
    identity: RequestContext
    timeout: float | None


AnyCall: TypeAlias = "Call[chat_pb2.ChatRequest] | Call[chat_pb2.ResumeRequest]"
"""A call whose answer is the events of a turn."""


def build_call(
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
) -> Call[chat_pb2.ChatRequest]:
    """The call that asks for one turn.

    Raises:
        InvalidArgumentError: a value cannot be sent; `field` names it.
    """
    conversation = [Message(Role.USER, prompt)] if isinstance(prompt, str) else prompt
    request = chat_pb2.ChatRequest(
        profile=unicode(profile, "profile"),
        messages=[message_to_wire(message, index) for index, message in enumerate(conversation)],
        tools=[tool_to_wire(tool, index) for index, tool in enumerate(tools)],
        sampling=sampling_to_wire(sampling),
        disconnect=_disconnect(disconnect),
        history=_history(history),
        idempotency_key=_key(idempotency_key),
        variables={
            unicode(name, "variables"): unicode(value, "variables") for name, value in (variables or {}).items()
        },
    )
    return wrap_call(request, session=session, values=values, timeout=timeout)


def resume_call(turn: str, *, after: int, session: str, timeout: float | None) -> Call[chat_pb2.ResumeRequest]:
    """The call that asks for the rest of a turn.

    Raises:
        InvalidArgumentError: a value cannot be sent; `field` names it.
    """
    if not 0 <= after < 2**63:
        raise InvalidArgumentError("expected the sequence number of the last event you have, or 0", field="after")
    request = chat_pb2.ResumeRequest(turn_id=unicode(turn, "turn_id"), after_sequence=after)
    return wrap_call(request, session=session, timeout=timeout)


def after_of(request: chat_pb2.ChatRequest | chat_pb2.ResumeRequest) -> int:
    """The sequence number after which the answer to a request begins."""
    return request.after_sequence if isinstance(request, chat_pb2.ResumeRequest) else 0


def wrap_call(request: Q, *, session: str, values: Mapping[str, str] | None = None, timeout: float | None) -> Call[Q]:
    """The call that sends a ready request.

    Raises:
        InvalidArgumentError: the session id or the timeout is none; `field` names it.
    """
    if session and not ID_PATTERN.fullmatch(session):
        raise InvalidArgumentError(
            "the session id is not one: expected 1 to 128 characters of A-Z a-z 0-9 . _ : -", field="session"
        )
    if timeout is not None and not timeout > 0:
        raise InvalidArgumentError("the timeout must be more than 0 seconds", field="timeout")
    identity = context.current()
    if session:
        identity = replace(identity, session_id=session)
    if values:
        identity = replace(identity, values={**identity.values, **values})
    return Call(request, identity, timeout)


def _key(key: str) -> str:
    if key and not ID_PATTERN.fullmatch(key):
        message = "the key is not one: expected 1 to 128 characters of A-Z a-z 0-9 . _ : -"
        raise InvalidArgumentError(message, field="idempotency_key")
    return key


_DISCONNECTS: Final = {
    Disconnect.CANCEL: chat_pb2.DISCONNECT_CANCEL,
    Disconnect.DRAIN: chat_pb2.DISCONNECT_DRAIN,
    Disconnect.DETACH: chat_pb2.DISCONNECT_DETACH,
}


def _disconnect(disconnect: Disconnect | str | None) -> chat_pb2.Disconnect.ValueType:
    if disconnect is None:
        return chat_pb2.DISCONNECT_UNSPECIFIED
    if disconnect not in _DISCONNECTS:
        raise InvalidArgumentError(
            f"disconnect must be one of {', '.join(_DISCONNECTS)}; it is {disconnect!r}", field="disconnect"
        )
    return _DISCONNECTS[Disconnect(disconnect)]


_HISTORIES: Final = {History.NONE: chat_pb2.HISTORY_NONE, History.KEEP: chat_pb2.HISTORY_KEEP}


def _history(history: History | str | None) -> chat_pb2.History.ValueType:
    if history is None:
        return chat_pb2.HISTORY_UNSPECIFIED
    if history not in _HISTORIES:
        raise InvalidArgumentError(
            f"history must be one of {', '.join(_HISTORIES)}; it is {history!r}", field="history"
        )
    return _HISTORIES[History(history)]
