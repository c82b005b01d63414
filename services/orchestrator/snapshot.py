"""A turn as it is at one moment, from the turn log."""

from contextlib import aclosing
from typing import Final

from shieldmesh.errors import MeshError
from shieldmesh.v1 import chat_pb2

from .log.turn_log import Record, TurnLog
from .merging import EVENTS

LARGEST: Final = 3 * 1024 * 1024
"""Bytes of events in a snapshot: below the 4 MiB that gRPC takes for one message by default."""


async def snapshot(log: TurnLog, turn: str, record: Record) -> chat_pb2.GetTurnResponse:
    """What there is of a turn, as much as fits, neighbouring deltas put together; `record` is what is known of it."""
    answer = chat_pb2.GetTurnResponse(state=chat_pb2.TURN_STATE_RUNNING)
    gathered: list[chat_pb2.ChatEvent] = []
    size = 0
    try:
        async with aclosing(log.follow(turn, 0, live=False)) as events:
            async for serialised in events:
                size += len(serialised)
                if size > LARGEST and gathered:
                    answer.partial = True
                    break
                event = chat_pb2.ChatEvent.FromString(serialised)
                if gathered and not EVENTS.alike(gathered[-1], event):
                    _add(answer, gathered)
                    gathered = []
                gathered.append(event)
    except MeshError as error:
        _fail(answer, error)
    _add(answer, gathered)
    if answer.partial and record.error is not None:
        _fail(answer, record.error)
    elif answer.partial and record.sealed:
        answer.state = chat_pb2.TURN_STATE_FINISHED
    return answer


def _fail(answer: chat_pb2.GetTurnResponse, error: MeshError) -> None:
    answer.state = chat_pb2.TURN_STATE_FAILED
    answer.failure.status, answer.failure.reason = error.code.name, error.reason
    answer.failure.message = error.message


def _add(answer: chat_pb2.GetTurnResponse, gathered: list[chat_pb2.ChatEvent]) -> None:
    """Adds events that are one."""
    if not gathered:
        return
    event = EVENTS.join(gathered) if len(gathered) > 1 else gathered[0]
    event.sequence = gathered[-1].sequence
    answer.events.append(event)
    if event.HasField("finished"):
        answer.state = chat_pb2.TURN_STATE_FINISHED
