"""How far a producer of text may be ahead of its reader: both sides of `GenerateWindow`."""

from typing import Final

from shieldmesh.v1 import generation_pb2, inference_pb2

BYTES: Final = 16_384
TOKENS: Final = 1_024
"""A window, unless settings say otherwise."""
DELTAS: Final = 16
"""Messages that may be on their way to a reader. What waits behind them becomes one message, so a reader that is behind
gets as much in fewer messages, and can follow. It says so once for half of them."""


def window(tokens: int = TOKENS, size: int = BYTES) -> inference_pb2.GenerateWindow:
    """What a caller asks for; `size` is in bytes."""
    return inference_pb2.GenerateWindow(tokens=tokens, bytes=size, deltas=DELTAS)


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
        self._most_deltas = limit.deltas
        self._tokens = self._bytes = self._deltas = 0
        self._taken_tokens = self._taken_bytes = self._taken_deltas = 0

    def add(self, delta: generation_pb2.Delta) -> None:
        """A delta passed this side."""
        self._tokens += delta.token_count
        self._bytes += delta_size(delta)
        self._deltas += 1

    @property
    def used_up(self) -> bool:
        """Whether so much is not known to be taken that nothing more may be sent."""
        return self._is_used(1)

    @property
    def half_used(self) -> bool:
        """Whether it is time for the reader to say what it has taken."""
        return self._is_used(2)

    def credit(self) -> inference_pb2.GenerateCredit:
        """What the reader says when it has taken all that passed."""
        self._taken_tokens, self._taken_bytes, self._taken_deltas = self._tokens, self._bytes, self._deltas
        return inference_pb2.GenerateCredit(tokens=self._tokens, bytes=self._bytes, deltas=self._deltas)

    def grant(self, credit: inference_pb2.GenerateCredit) -> None:
        """What the producer hears from the reader."""
        self._taken_tokens, self._taken_bytes, self._taken_deltas = credit.tokens, credit.bytes, credit.deltas

    def _is_used(self, times: int) -> bool:
        """Whether a window would be used up if so many times as much were on its way."""
        return (
            0 < self._most_deltas <= times * (self._deltas - self._taken_deltas)
            or 0 < self._most_tokens <= times * (self._tokens - self._taken_tokens)
            or 0 < self._most_bytes <= times * (self._bytes - self._taken_bytes)
        )
