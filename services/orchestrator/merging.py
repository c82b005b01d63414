"""How messages that wait for the same reader become one."""

from shieldmesh.v1 import chat_pb2, generation_pb2, shield_pb2


def merge_events(last: chat_pb2.ChatEvent, new: chat_pb2.ChatEvent) -> bool:
    """Appends a delta to the one before when both are of the same text; says whether it did."""
    if not (last.HasField("delta") and new.HasField("delta")):
        return False
    into, delta = last.delta, new.delta
    if into.choice != delta.choice or not _same_text(into, delta):
        return False
    into.text += delta.text
    into.reasoning += delta.reasoning
    if delta.HasField("tool_call"):
        into.tool_call.arguments += delta.tool_call.arguments
    into.token_count += delta.token_count
    return True


def merge_texts(last: shield_pb2.InspectText, new: shield_pb2.InspectText) -> bool:
    """Appends a lane's text to the piece before when that is the same lane's; says whether it did."""
    if last.lane != new.lane:
        return False
    last.text += new.text
    last.end = new.end
    return True


def event_weight(event: chat_pb2.ChatEvent) -> int:
    """The characters of text in an event, or the bytes of an interim result."""
    delta = event.delta
    return len(delta.text) + len(delta.reasoning) + len(delta.tool_call.arguments) or event.progress.ByteSize()


def text_weight(text: shield_pb2.InspectText) -> int:
    """The characters of a text."""
    return len(text.text)


def _same_text(into: generation_pb2.Delta, delta: generation_pb2.Delta) -> bool:
    if into.HasField("tool_call") or delta.HasField("tool_call"):
        same_call = into.HasField("tool_call") and delta.HasField("tool_call")
        return same_call and into.tool_call.index == delta.tool_call.index and not delta.tool_call.id
    return bool(into.text) == bool(delta.text) and bool(into.reasoning) == bool(delta.reasoning)
