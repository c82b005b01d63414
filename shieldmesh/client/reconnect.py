"""How one turn is read over connections that break: what to ask next, and when to give up.

```text
Chat ──▶ started, 2, 3 ── ✗ ──▶ Resume after 3 ──▶ 4, 5 ── ✗ ──▶ Resume after 5 ──▶ 6, finished
Chat ── ✗ ──▶ Chat with the same key and session ──▶ started, 2 …
Chat ── RESOURCE_EXHAUSTED, RetryInfo ──▶ the same, after its time, while the budget allows it
```
"""

import random
import time
from dataclasses import dataclass, field, replace
from typing import Final

import grpc

from shieldmesh.budget import RetryBudget
from shieldmesh.client.events import Event, Reconnected
from shieldmesh.client.reach import answered
from shieldmesh.client.request import AnyCall, Call, after_of
from shieldmesh.client.wire import EventReader
from shieldmesh.context import new_id
from shieldmesh.errors import DeadlineExceededError, MeshError, ResourceExhaustedError, UnavailableError, seconds
from shieldmesh.v1 import chat_pb2

SHORTEST_DELAY: Final = 0.05
"""Seconds before a first call anew, at most; each further one waits twice as long."""
LONGEST_DELAY: Final = 1.0
_BUDGET: Final = 20

_BREAKS: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,  # a proxy on the way reset the stream
        grpc.StatusCode.INTERNAL,  # the same, in other words
        grpc.StatusCode.UNKNOWN,  # the stream ended without a status
    }
)
"""What gRPC says of calls whose connection broke. Said by a service, all but the first mean something else."""


@dataclass(frozen=True, slots=True)
class Reconnect:
    """How a client goes on when its connection breaks in a turn."""

    attempts: int = 10
    """How many calls in a row may bring no event."""
    time: float = 10.0
    """Seconds from a break to the next event, or to giving up."""

    def __post_init__(self) -> None:
        if self.attempts < 1 or not self.time > 0:
            raise ValueError("expected at least one attempt, and a time of more than 0 seconds")


DEFAULT_RECONNECT: Final = Reconnect()


@dataclass(slots=True)
class Acquaintance:
    """What a client knows of its mesh. One that has never answered is not waited for: its URL may be wrong."""

    answered: bool = False
    budget: RetryBudget = field(default_factory=lambda: RetryBudget(_BUDGET))
    """For asking again what a service of the mesh did not take; connections that break cost it nothing."""


class Reading:
    """The reading of one turn: decides, but calls nobody and never waits.

    Attributes:
        sequence: The last sequence number that has come, or after which the reading began.
    """

    def __init__(self, call: AnyCall, policy: Reconnect | None, mesh: Acquaintance) -> None:
        """Begins with a call; without a policy it stays the only one."""
        self._policy = policy
        self._mesh = mesh
        self._first = _repeatable(call) if policy is not None else call
        self._turn = call.request.turn_id if isinstance(call.request, chat_pb2.ResumeRequest) else ""
        self._reader = EventReader(after_of(call.request))
        self._deadline: float | None = None
        self._waits_for_us = False
        self._over = False
        # What broke since the last event, when, and how many calls have been made for that.
        self._broken: MeshError | None = None
        self._since = 0.0
        self._attempts = 0

    @property
    def sequence(self) -> int:
        """See the class."""
        return self._reader.sequence

    def call(self) -> AnyCall:
        """What to ask now, with the time that is left."""
        first, now = self._first, time.monotonic()
        if self._deadline is None:
            self._deadline = None if first.timeout is None else now + first.timeout
        timeout = None if self._deadline is None else max(self._deadline - now, 0.001)
        if not self._turn:
            return replace(first, timeout=timeout)
        request = chat_pb2.ResumeRequest(turn_id=self._turn, after_sequence=self.sequence)
        return Call(request, first.identity, timeout)

    def read(self, message: chat_pb2.ChatEvent) -> list[Event]:
        """What a message tells.

        Raises:
            DataLossError: events are missing or came twice.
        """
        after = self.sequence
        event = self._reader.read(message)
        self._mesh.answered = True
        self._over = self._reader.finished
        if message.HasField("started"):
            self._turn = message.started.turn_id
            cancelled = message.started.disconnect == chat_pb2.DISCONNECT_CANCEL
            self._waits_for_us = cancelled and seconds(message.started.reconnect_grace) > 0
        events: list[Event] = [] if event is None else [event]
        if after == 0:
            self._mesh.budget.succeeded()
        if self._broken is not None:
            if not isinstance(self._broken, ResourceExhaustedError):
                events.insert(0, Reconnected(after, self._attempts, self._broken))
            self._broken = None
        return events

    def end(self) -> None:
        """Says that no message follows.

        Raises:
            InternalError: the last one was not `finished`.
        """
        self._over = True
        self._reader.end()

    def failed(self, error: MeshError) -> float:
        """Says that a call failed; the seconds to wait before the next one.

        Raises:
            MeshError: there is none.
        """
        self._over = True
        self._mesh.answered = self._mesh.answered or bool(answered(error))
        begun = self.sequence > 0
        again = _is_refusal(error, begun) or _is_break(error, begun)
        if self._policy is None or not self._mesh.answered or not again or not self._may_repeat(error, begun):
            raise self._cause(error)
        now = time.monotonic()
        if self._broken is None:
            self._broken, self._since, self._attempts = error, now, 0
        delay = min(LONGEST_DELAY, SHORTEST_DELAY * (1 << self._attempts)) * random.uniform(0.5, 1)  # noqa: S311  # no secret
        delay = max(delay, error.retry_after or 0.0)
        self._attempts += 1
        limit = self._since + self._policy.time
        if self._deadline is not None:
            limit = min(limit, self._deadline)
        if self._attempts > self._policy.attempts or now + delay >= limit:
            raise error
        self._over = False
        return delay

    def forsaken(self) -> Call[chat_pb2.CancelTurnRequest] | None:
        """The call that ends what is left of the turn, for a reader who leaves; None where leaving says enough.

        Who only resumed a turn leaves it to itself.
        """
        if self._over or not self._waits_for_us or not isinstance(self._first.request, chat_pb2.ChatRequest):
            return None
        return Call(chat_pb2.CancelTurnRequest(turn_id=self._turn), self._first.identity, CANCEL_SECONDS)

    def _may_repeat(self, error: MeshError, begun: bool) -> bool:
        """Whether the budget allows for a call like the one that failed; what a service did not take costs it."""
        if begun or not (error.hops and error.hops[-1].instance):
            return True
        self._mesh.budget.failed()
        return self._mesh.budget.allows

    def _cause(self, error: MeshError) -> MeshError:
        """The error to tell: what broke the connection, where the turn or the time was gone before it stood again."""
        told = isinstance(error, DeadlineExceededError) or error.reason in _GONE
        return self._broken if told and self._broken is not None else error


CANCEL_SECONDS: Final = 2.0
"""How long who leaves a turn may be kept by it."""

_ORCHESTRATOR: Final = "orchestrator"
_GONE: Final = frozenset({"TURN_NOT_FOUND", "TURN_CANCELLED"})
"""A turn that was not kept, or that ended because its reader was away."""


def _is_refusal(error: MeshError, begun: bool) -> bool:
    """Whether there was no place for the turn, and the mesh said when to come back."""
    return isinstance(error, ResourceExhaustedError) and error.retry_after is not None and not begun


def _is_break(error: MeshError, begun: bool) -> bool:
    """Whether the way to the turn broke, and not the turn.

    1. Nobody of the mesh answered, or a service on the way could not reach the next one.
    2. A service on the way says itself that it cannot be used now: it stops, or cannot read the turn log.
    3. The orchestrator says so; that it stops is the end of a turn that has begun.
    """
    if error.code not in _BREAKS or not error.hops:
        return False
    last, turn_answered = error.hops[-1], any(hop.service == _ORCHESTRATOR for hop in answered(error))
    if not turn_answered:
        return not last.instance or isinstance(error, UnavailableError)
    stopped = begun and error.reason == "SERVICE_STOPPING"
    return last.service == _ORCHESTRATOR and isinstance(error, UnavailableError) and not stopped


def _repeatable(call: AnyCall) -> AnyCall:
    """The call in a form that can be made again: with a key, and in a session that it names itself."""
    if not isinstance(call.request, chat_pb2.ChatRequest):
        return call
    request = chat_pb2.ChatRequest()
    request.CopyFrom(call.request)
    request.idempotency_key = request.idempotency_key or new_id()
    identity = replace(call.identity, session_id=call.identity.session_id or new_id())
    return Call(request, identity, call.timeout)
