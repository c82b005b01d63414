"""What may leave: the text of one lane, held until the shields have cleared it. Pure: no I/O, no clock of its own.

A lane is one text of a turn: the content of a choice, its reasoning, the arguments of a tool call. Offsets count
Unicode code points of the text as the model wrote it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from shieldmesh.errors import InternalError


@dataclass(frozen=True, slots=True)
class Edit:
    """A replacement for the span [start, end)."""

    start: int
    end: int
    replacement: str


class Release(NamedTuple):
    """What leaves at one step.

    Attributes:
        text: The text with its edits applied.
        tokens: Tokens of the model that are now out in full.
    """

    text: str
    tokens: int


class Lane:
    """Text in, cleared text out.

    Attributes:
        written: Characters added.
        released: Characters that left as they were.
        redacted: Characters that edits replaced.
        most_held: The most characters held at one time.
        longest_hold: The longest that a piece of text was held, in seconds.
    """

    def __init__(self) -> None:
        self.written = 0
        self.released = 0
        self.redacted = 0
        self.most_held = 0
        self.longest_hold = 0.0
        self._cleared = 0
        self._text = ""
        self._pieces: list[tuple[int, int, float]] = []  # where a piece ends, its tokens, when it came

    @property
    def held(self) -> int:
        """Characters that wait for a shield."""
        return self.written - self._cleared

    def add(self, text: str, tokens: int, now: float) -> int:
        """Takes a piece of the model's text; the offset at which it begins. `now`: seconds of a monotonic clock."""
        offset = self.written
        self.written += len(text)
        self._text += text
        self._pieces.append((self.written, tokens, now))
        return offset

    def clear(self, watermark: int, edits: Iterable[Edit], now: float) -> Release:
        """What leaves when everything before `watermark` is cleared.

        Raises:
            InternalError: the clearance contradicts the text or an earlier one; releasing on it could leak.
        """
        base = at = self._cleared
        if not base <= watermark <= self.written:
            raise _broken(f"a watermark of {watermark}, expected {base} to {self.written}")
        held, text = self._text, ""
        for edit in edits:
            if not at <= edit.start < edit.end <= watermark:
                raise _broken(f"an edit of [{edit.start}, {edit.end}) between {at} and the watermark {watermark}")
            text += held[at - base : edit.start - base] + edit.replacement
            self.redacted += edit.end - edit.start
            self.released += edit.start - at
            at = edit.end
        text += held[at - base : watermark - base]
        self.released += watermark - at
        self._text = held[watermark - base :]
        self._cleared = watermark
        return Release(text, self._tokens_before(watermark, now))

    def note_hold(self, seen: int) -> None:
        """Notes what shields that have seen the text up to `seen` keep; text on its way to them is not held."""
        self.most_held = max(self.most_held, seen - self._cleared)

    def _tokens_before(self, watermark: int, now: float) -> int:
        out = tokens = 0
        for end, count, _ in self._pieces:
            if end > watermark:
                break
            out, tokens = out + 1, tokens + count
        if out:
            self.longest_hold = max(self.longest_hold, now - self._pieces[0][2])  # the first has waited longest
            del self._pieces[:out]
        return tokens


def edited(text: str, edits: Iterable[Edit]) -> str:
    """A whole text with its edits applied, which are by start and without overlaps.

    Raises:
        InternalError: they are not, or lie outside the text.
    """
    lane = Lane()
    lane.add(text, 0, 0.0)
    return lane.clear(len(text), edits, 0.0).text


def _broken(what: str) -> InternalError:
    return InternalError(f"the shield service sent {what}; nothing more is released", reason="SHIELD_BROKEN")
