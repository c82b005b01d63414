"""What a turn's client was given, as one message of the model."""

from shieldmesh.v1 import generation_pb2, message_pb2

_WHOLE = frozenset({generation_pb2.FINISH_REASON_STOP, generation_pb2.FINISH_REASON_TOOL_CALLS})
"""Ends behind which no call of a tool is cut off."""
_ANSWERED = _WHOLE | {generation_pb2.FINISH_REASON_LENGTH, generation_pb2.FINISH_REASON_CANCELLED}
"""Ends of turns that no shield blocked."""


class Answer:
    """Gathers the released output of the first choice, without the model's reasoning."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._calls: dict[int, message_pb2.ToolCall] = {}

    def add(self, delta: generation_pb2.Delta) -> None:
        """Takes what was released."""
        if delta.choice:
            return
        if delta.HasField("tool_call"):
            part = delta.tool_call
            call = self._calls.setdefault(part.index, message_pb2.ToolCall())
            call.id, call.name = call.id or part.id, call.name or part.name
            call.arguments += part.arguments
        elif delta.text:
            self._text.append(delta.text)

    def message(self, reason: generation_pb2.FinishReason.ValueType) -> message_pb2.Message | None:
        """The answer of a turn that ended so; None for one that is not worth keeping."""
        if reason not in _ANSWERED:
            return None
        text = "".join(self._text)
        calls = [self._calls[index] for index in sorted(self._calls)] if reason in _WHOLE else []
        if not text and not calls:
            return None
        parts = [message_pb2.ContentPart(text=text)] if text else []
        return message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, parts=parts, tool_calls=calls)
