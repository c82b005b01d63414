"""A turn as it is at one moment, from the turn log."""

from contextlib import aclosing

from shieldmesh.errors import MeshError
from shieldmesh.v1 import chat_pb2

from .log.turn_log import TurnLog
from .merging import EVENTS


async def snapshot(log: TurnLog, turn: str) -> chat_pb2.GetTurnResponse:
    """What there is of a turn, neighbouring deltas put together."""
    answer = chat_pb2.GetTurnResponse(state=chat_pb2.TURN_STATE_RUNNING)
    gathered: list[chat_pb2.ChatEvent] = []
    try:
        async with aclosing(log.follow(turn, 0, live=False)) as events:
            async for serialised in events:
                event = chat_pb2.ChatEvent.FromString(serialised)
                if gathered and not EVENTS.alike(gathered[-1], event):
                    _add(answer, gathered)
                    gathered = []
                gathered.append(event)
    except MeshError as error:
        answer.state = chat_pb2.TURN_STATE_FAILED
        answer.failure.status, answer.failure.reason = error.code.name, error.reason
        answer.failure.message = error.message
    _add(answer, gathered)
    return answer


def _add(answer: chat_pb2.GetTurnResponse, gathered: list[chat_pb2.ChatEvent]) -> None:
    """Adds events that are one."""
    if not gathered:
        return
    event = EVENTS.join(gathered) if len(gathered) > 1 else gathered[0]
    event.sequence = gathered[-1].sequence
    answer.events.append(event)
    if event.HasField("finished"):
        answer.state = chat_pb2.TURN_STATE_FINISHED
