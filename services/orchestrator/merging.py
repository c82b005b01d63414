"""How messages that wait for the same reader become one."""

from collections.abc import Sequence
from typing import Final

from shieldmesh.v1 import chat_pb2, generation_pb2, shield_pb2
from shieldmesh.window import delta_size, text_size

from .mailbox import Measure


class Events:
    """Deltas of the same text become one; see `services.orchestrator.mailbox.Joining`."""

    def alike(self, first: chat_pb2.ChatEvent, second: chat_pb2.ChatEvent) -> bool:
        """Whether both are deltas of the same text, and no tool call begins in between."""
        if not (first.HasField("delta") and second.HasField("delta")):
            return False
        one, other = first.delta, second.delta
        return one.choice == other.choice and _same_text(one, other)

    def join(self, items: Sequence[chat_pb2.ChatEvent]) -> chat_pb2.ChatEvent:
        """One delta."""
        joined = chat_pb2.ChatEvent()
        joined.CopyFrom(items[0])
        deltas, into = [item.delta for item in items], joined.delta
        into.text = "".join(delta.text for delta in deltas)
        into.reasoning = "".join(delta.reasoning for delta in deltas)
        into.token_count = sum(delta.token_count for delta in deltas)
        if into.HasField("tool_call"):
            into.tool_call.arguments = "".join(delta.tool_call.arguments for delta in deltas)
        return joined

    def measure(self, item: chat_pb2.ChatEvent) -> Measure:
        """The bytes of all its texts or of an interim result, and the tokens that it completes."""
        if item.HasField("progress"):
            return item.progress.ByteSize(), 0
        delta = item.delta
        return delta_size(delta), delta.token_count


class Texts:
    """The texts of a lane become one; see `services.orchestrator.mailbox.Joining`."""

    def alike(self, first: shield_pb2.InspectText, second: shield_pb2.InspectText) -> bool:
        """Whether both are of the same lane."""
        return first.lane == second.lane

    def join(self, items: Sequence[shield_pb2.InspectText]) -> shield_pb2.InspectText:
        """One text, which ends the lane if its last piece does."""
        joined = shield_pb2.InspectText()
        joined.CopyFrom(items[0])
        joined.text = "".join(item.text for item in items)
        joined.end = items[-1].end
        return joined

    def measure(self, item: shield_pb2.InspectText) -> Measure:
        """The bytes of its text; shields count no tokens."""
        return text_size(item.text), 0


EVENTS: Final = Events()
TEXTS: Final = Texts()


def _same_text(one: generation_pb2.Delta, other: generation_pb2.Delta) -> bool:
    if one.HasField("tool_call") or other.HasField("tool_call"):
        same_call = one.HasField("tool_call") and other.HasField("tool_call")
        return same_call and one.tool_call.index == other.tool_call.index and not other.tool_call.id
    return bool(one.text) == bool(other.text) and bool(one.reasoning) == bool(other.reasoning)
