"""How far a producer of text may be ahead of its reader, in tokens and bytes: both sides of `GenerateWindow`."""

from typing import Final

from shieldmesh.v1 import generation_pb2, inference_pb2

BYTES: Final = 16_384
TOKENS: Final = 1_024
"""A window, unless settings say otherwise."""


def text_size(text: str) -> int:
    """The bytes of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def delta_size(delta: generation_pb2.Delta) -> int:
    """The bytes of all texts of a delta."""
    text = delta.text + delta.reasoning  # one of them is empty
    if delta.HasField("tool_call"):
        text += delta.tool_call.arguments
    return len(text) if text.isascii() else len(text.encode())


class Window:
    """Counts what passes, and says when the window is used up. Each side has its own."""

    def __init__(self, limit: inference_pb2.GenerateWindow) -> None:
        # In plain numbers, of which 0 is no limit: they are looked at with every delta.
        self._most_tokens = limit.tokens
        self._most_bytes = limit.bytes
        self._tokens = self._bytes = 0
        self._taken_tokens = self._taken_bytes = 0

    def add(self, delta: generation_pb2.Delta) -> None:
        """A delta passed this side."""
        self._tokens += delta.token_count
        self._bytes += delta_size(delta)

    @property
    def used_up(self) -> bool:
        """Whether so much is not known to be taken that nothing more may be sent."""
        tokens, size = self._tokens - self._taken_tokens, self._bytes - self._taken_bytes
        return 0 < self._most_tokens <= tokens or 0 < self._most_bytes <= size

    @property
    def half_used(self) -> bool:
        """Whether it is time for the reader to say what it has taken."""
        tokens, size = self._tokens - self._taken_tokens, self._bytes - self._taken_bytes
        return 0 < self._most_tokens <= 2 * tokens or 0 < self._most_bytes <= 2 * size

    def credit(self) -> inference_pb2.GenerateCredit:
        """What the reader says when it has taken all that passed."""
        self._taken_tokens, self._taken_bytes = self._tokens, self._bytes
        return inference_pb2.GenerateCredit(tokens=self._tokens, bytes=self._bytes)

    def grant(self, credit: inference_pb2.GenerateCredit) -> None:
        """What the producer hears from the reader."""
        self._taken_tokens, self._taken_bytes = credit.tokens, credit.bytes
