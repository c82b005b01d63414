"""What a model is shown of a conversation: how much fits, and which calls and results belong together. Pure."""

from collections.abc import Sequence

from shieldmesh.errors import InvalidArgumentError
from shieldmesh.v1 import message_pb2

Messages = Sequence[message_pb2.Message]


def estimate(messages: Messages) -> int:
    """Tokens of messages without a tokenizer, rather too many: one for three bytes of UTF-8, and four a message.

    Byte-level tokenizers take three to five bytes of English for a token, and about three of Chinese or Japanese.
    """
    return sum(4 + -(-_bytes(message) // 3) for message in messages)


def first_that_fits(turns: Sequence[Messages], tokens: int, characters: int | None = None) -> int:
    """The number of the oldest turn that stays, when those behind it must fit into so much; their count if none does.

    Whole turns go, the oldest first. A turn that begins with results of tools goes with the one that called them.
    """
    first = len(turns)
    for number in reversed(range(len(turns))):
        tokens -= estimate(turns[number])
        if characters is not None:
            characters -= sum(map(_characters, turns[number]))
        if tokens < 0 or (characters is not None and characters < 0):
            break
        if not begins_with_results(turns[number]):
            first = number
    return first


def begins_with_results(turn: Messages) -> bool:
    """Whether a turn goes on with what the one before it called."""
    return bool(turn) and turn[0].role == message_pb2.ROLE_TOOL


def recalled(turns: Sequence[Messages], new: Messages, tokens: int, characters: int) -> list[message_pb2.Message]:
    """What of a history stands before new messages: at most so much of it, with each call beside its results.

    Calls that no message answers are left out, as are results that answer nothing any more.

    Raises:
        InvalidArgumentError: a new message answers a call that is not kept.
    """
    shown = [message for turn in turns[first_that_fits(turns, tokens, characters) :] for message in turn]
    answered, orphans = _pairs([*shown, *new])
    for number in orphans:
        if number >= len(shown):
            raise InvalidArgumentError(
                "the message answers a call that is not in the history that is kept: send the conversation yourself",
                field="messages.tool_call_id",
            )
    kept = (_without_calls(message, answered[number]) for number, message in enumerate(shown) if number not in orphans)
    return [message for message in kept if message.parts or message.tool_calls]


def _pairs(messages: Messages) -> tuple[list[set[str]], set[int]]:
    """Which calls of each message are answered, and the numbers of the results that answer none."""
    answered: list[set[str]] = [set() for _ in messages]
    orphans: set[int] = set()
    caller = -1
    """The message whose calls can be answered now."""
    for number, message in enumerate(messages):
        if message.role != message_pb2.ROLE_TOOL:
            caller = number
        elif caller >= 0 and _calls(messages[caller], message.tool_call_id, answered[caller]):
            answered[caller].add(message.tool_call_id)
        else:
            orphans.add(number)
    return answered, orphans


def _calls(message: message_pb2.Message, call: str, answered: set[str]) -> bool:
    return call not in answered and any(each.id == call for each in message.tool_calls)


def _without_calls(message: message_pb2.Message, but: set[str]) -> message_pb2.Message:
    """The message with these calls alone."""
    if all(call.id in but for call in message.tool_calls):
        return message
    copy = message_pb2.Message()
    copy.CopyFrom(message)
    del copy.tool_calls[:]
    copy.tool_calls.extend(call for call in message.tool_calls if call.id in but)
    return copy


def _bytes(message: message_pb2.Message) -> int:
    return sum(len(text.encode()) for text in _texts(message))


def _characters(message: message_pb2.Message) -> int:
    return sum(map(len, _texts(message)))


def _texts(message: message_pb2.Message) -> list[str]:
    called = [text for call in message.tool_calls for text in (call.id, call.name, call.arguments)]
    return [*(part.text for part in message.parts), *called, message.tool_call_id]
