"""A turn as it is at one moment, from the turn log."""

from contextlib import aclosing

from shieldmesh.errors import MeshError
from shieldmesh.v1 import chat_pb2

from .log.turn_log import TurnLog
from .merging import merge_events


async def snapshot(log: TurnLog, turn: str) -> chat_pb2.GetTurnResponse:
    """What there is of a turn, neighbouring deltas put together."""
    answer = chat_pb2.GetTurnResponse(state=chat_pb2.TURN_STATE_RUNNING)
    try:
        async with aclosing(log.follow(turn, 0, live=False)) as events:
            async for serialised in events:
                _add(answer, chat_pb2.ChatEvent.FromString(serialised))
    except MeshError as error:
        answer.state = chat_pb2.TURN_STATE_FAILED
        answer.failure.status, answer.failure.reason = error.code.name, error.reason
        answer.failure.message = error.message
    return answer


def _add(answer: chat_pb2.GetTurnResponse, event: chat_pb2.ChatEvent) -> None:
    if answer.events and merge_events(answer.events[-1], event):
        answer.events[-1].sequence = event.sequence
    else:
        answer.events.append(event)
    if event.HasField("finished"):
        answer.state = chat_pb2.TURN_STATE_FINISHED
