"""The events of an answer that no orchestrator tells of: numbered, with what it took and what it cost."""

import time

from shieldmesh import context, telemetry
from shieldmesh.client.events import (
    Delta,
    Finished,
    FinishReason,
    Receipt,
    Started,
    Timings,
    ToolCallDelta,
    Usage,
)


class Story:
    """Tells one answer.

    Attributes:
        tokens: Tokens of the deltas so far.
        sequence: The last event's number.
    """

    def __init__(self, model: str) -> None:
        self.tokens = 0
        self._model = model
        self.sequence = 0
        self._characters = 0
        self._begun = time.monotonic()
        self._admitted: float | None = None
        self._first: float | None = None

    def number(self) -> int:
        """The sequence number of the next event."""
        self.sequence += 1
        return self.sequence

    def started(self) -> Started:
        """The answer began: the model has the request."""
        ours = context.current()
        self._admitted = self._elapsed()
        return Started(
            self.number(),
            turn_id=ours.request_id,
            session_id=ours.session_id,
            profile="",
            profile_version="",
            model=self._model,
            trace_id=telemetry.trace_id(),
        )

    def delta(
        self,
        text: str = "",
        *,
        reasoning: str = "",
        tool_call: ToolCallDelta | None = None,
        choice: int = 0,
        tokens: int = 0,
    ) -> Delta:
        """New output."""
        if self._first is None:
            self._first = self._elapsed()
        self.tokens += tokens
        self._characters += len(text) + len(reasoning) + len(tool_call.arguments if tool_call else "")
        return Delta(self.number(), text, reasoning, tool_call, choice, tokens)

    def finished(self, reason: FinishReason, usage: Usage) -> Finished:
        """The answer ended."""
        everything = Receipt(generated_characters=self._characters, released_characters=self._characters)
        times = Timings(
            admitted=self._admitted, first_token=self._first, first_release=self._first, total=self._elapsed()
        )
        return Finished(self.number(), reason, usage, everything, times)

    def _elapsed(self) -> float:
        return time.monotonic() - self._begun
