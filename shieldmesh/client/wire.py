"""From the contract's messages to events."""

from collections.abc import Iterable
from typing import Final

from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration

from shieldmesh import errors
from shieldmesh.client import events
from shieldmesh.client.events import (
    Action,
    Delta,
    Direction,
    Event,
    Finding,
    Finished,
    FinishReason,
    Started,
    TurnRecord,
    TurnState,
    Verdict,
)
from shieldmesh.errors import DataLossError, InternalError
from shieldmesh.v1 import chat_pb2, generation_pb2, policy_pb2


class EventReader:
    """Reads the messages of one turn and sees that none is missing.

    Attributes:
        finished: Whether the turn's last event has come.
        sequence: The last sequence number that has come, or after which the reading began.
    """

    def __init__(self, after: int = 0) -> None:
        self.finished = False
        self.sequence = after
        self._after = after

    def read(self, message: chat_pb2.ChatEvent) -> Event | None:
        """The event in `message`, or None for one that this client does not know.

        Raises:
            DataLossError: events are missing or came twice.
        """
        if message.sequence != self.sequence + 1:
            raise DataLossError(f"event {message.sequence} of the turn came where {self.sequence + 1} was expected")
        self.sequence = message.sequence
        event = _event(message)
        self.finished = isinstance(event, Finished)
        return event

    def end(self) -> None:
        """Says that no message follows.

        Raises:
            InternalError: the last one was not `finished`.
        """
        resumed_at_the_end = self.sequence == self._after > 0
        if not self.finished and not resumed_at_the_end:
            raise InternalError(f"the stream ended after event {self.sequence} without saying how the turn ended")


def collect(turn: Iterable[Event]) -> events.Result:
    """The whole turn from all its events."""
    text: list[str] = []
    reasoning: list[str] = []
    verdicts: list[Verdict] = []
    started: Started | None = None
    finished: Finished | None = None
    for event in turn:
        match event:
            case Started():
                started = event
            case Delta(choice=0):
                text.append(event.text)
                reasoning.append(event.reasoning)
            case Verdict():
                verdicts.append(event)
            case Finished():
                finished = event
            case _:
                pass
    if started is None or finished is None:
        raise InternalError("the turn has no beginning or no end: it was read before, or the mesh broke its contract")
    return events.Result("".join(text), "".join(reasoning), started, tuple(verdicts), finished)


_STATES: Final = {
    chat_pb2.TURN_STATE_RUNNING: TurnState.RUNNING,
    chat_pb2.TURN_STATE_FINISHED: TurnState.FINISHED,
    chat_pb2.TURN_STATE_FAILED: TurnState.FAILED,
}


def record(response: chat_pb2.GetTurnResponse) -> TurnRecord:
    """What there is of a turn."""
    known = (_event(message) for message in response.events)
    failure = response.failure
    return TurnRecord(
        state=_STATES.get(response.state, TurnState.UNKNOWN),
        events=tuple(event for event in known if event is not None),
        error=errors.from_name(failure.status, failure.message, failure.reason)
        if response.HasField("failure")
        else None,
        partial=response.partial,
    )


def _event(message: chat_pb2.ChatEvent) -> Event | None:
    match message.WhichOneof("event"):
        case "started":
            return _started(message.sequence, message.started)
        case "delta":
            return delta(message.sequence, message.delta)
        case "verdict":
            return _verdict(message.sequence, message.verdict)
        case "progress":
            payload = json_format.MessageToDict(message.progress.payload)
            return events.Progress(message.sequence, message.progress.name, payload)
        case "finished":
            return _finished(message.sequence, message.finished)
        case None:
            return None


def _started(sequence: int, started: chat_pb2.TurnStarted) -> Started:
    return Started(
        sequence,
        turn_id=started.turn_id,
        session_id=started.session_id,
        profile=started.profile,
        profile_version=started.profile_version,
        model=started.model,
        trace_id=started.trace_id,
        fallback_from=tuple(started.fallback_from),
    )


def delta(sequence: int, delta: generation_pb2.Delta) -> Delta:
    """New output of a model, or of a turn."""
    tool_call = None
    if delta.HasField("tool_call"):
        part = delta.tool_call
        tool_call = events.ToolCallDelta(part.index, part.id, part.name, part.arguments)
    return Delta(sequence, delta.text, delta.reasoning, tool_call, delta.choice, delta.token_count)


_ACTIONS: Final = {
    policy_pb2.ACTION_ALLOW: Action.ALLOW,
    policy_pb2.ACTION_FLAG: Action.FLAG,
    policy_pb2.ACTION_REDACT: Action.REDACT,
    policy_pb2.ACTION_BLOCK: Action.BLOCK,
}
_DIRECTIONS: Final = {
    policy_pb2.DIRECTION_INPUT: Direction.INPUT,
    policy_pb2.DIRECTION_OUTPUT: Direction.OUTPUT,
}
_REASONS: Final = {
    generation_pb2.FINISH_REASON_STOP: FinishReason.STOP,
    generation_pb2.FINISH_REASON_LENGTH: FinishReason.LENGTH,
    generation_pb2.FINISH_REASON_TOOL_CALLS: FinishReason.TOOL_CALLS,
    generation_pb2.FINISH_REASON_CONTENT_FILTER: FinishReason.CONTENT_FILTER,
    generation_pb2.FINISH_REASON_CANCELLED: FinishReason.CANCELLED,
}


def _verdict(sequence: int, verdict: policy_pb2.Verdict) -> Verdict:
    return Verdict(
        sequence,
        shield=verdict.shield,
        direction=_DIRECTIONS.get(verdict.direction, Direction.UNKNOWN),
        action=_ACTIONS.get(verdict.action, Action.UNKNOWN),
        findings=tuple(Finding(found.kind, found.start, found.end, found.score) for found in verdict.findings),
        text_index=verdict.text_index,
        error=verdict.error,
    )


def _finished(sequence: int, finished: chat_pb2.TurnFinished) -> Finished:
    receipt, timings = finished.receipt, finished.timings
    return Finished(
        sequence,
        reason=reason(finished.reason),
        usage=usage(finished.usage),
        receipt=events.Receipt(
            generated_characters=receipt.generated_characters,
            released_characters=receipt.released_characters,
            redacted_characters=receipt.redacted_characters,
            withheld_characters=receipt.withheld_characters,
            most_held_characters=receipt.most_held_characters,
            longest_hold=errors.seconds(receipt.longest_hold),
            input_shields=tuple(receipt.input_shields),
            output_shields=tuple(receipt.output_shields),
            holds=tuple(
                events.Hold(each.shield, each.most_characters, errors.seconds(each.time)) for each in receipt.holds
            ),
        ),
        timings=events.Timings(
            input_cleared=_seconds(timings.HasField("input_cleared"), timings.input_cleared),
            admitted=_seconds(timings.HasField("admitted"), timings.admitted),
            first_token=_seconds(timings.HasField("first_token"), timings.first_token),
            first_release=_seconds(timings.HasField("first_release"), timings.first_release),
            total=_seconds(timings.HasField("total"), timings.total),
            queued=_seconds(timings.HasField("queued"), timings.queued),
        ),
    )


def _seconds(reached: bool, value: Duration) -> float | None:
    return errors.seconds(value) if reached else None


def reason(reason: generation_pb2.FinishReason.ValueType) -> FinishReason:
    """Why a generation or a turn ended."""
    return _REASONS.get(reason, FinishReason.UNKNOWN)


def usage(usage: generation_pb2.Usage) -> events.Usage:
    """What a generation or a turn cost."""
    return events.Usage(
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens,
    )
