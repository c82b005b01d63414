"""One pattern's way through one text that is still being written."""

from typing import Final, NamedTuple

from .automaton import DEAD, START
from .pattern import Pattern


class Span(NamedTuple):
    """A match, in code points of its text."""

    pattern: Pattern
    start: int
    end: int


IDLE: Final = -1


class Scanner:
    """Tries one pattern at the starts it is given, and remembers a start that is not decided yet.

    A start is decided once, and the same for every way the text could go on.

    Attributes:
        start: The undecided start, or IDLE. No match before it is unknown.
        clean: Starts before this are decided, or lie in a match.
    """

    __slots__ = ("_accepts", "_at", "_state", "clean", "pattern", "start")

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = pattern
        self.start = IDLE
        self.clean = 0
        self._at = 0
        self._state = START
        self._accepts: list[int] = []

    def begin(self, start: int, text: str, base: int, *, end: bool, found: list[Span]) -> None:
        """Tries a start. `text` begins at `base` and is all there is; the left boundary of the start was checked."""
        self.start = self._at = start
        self._state = START
        self._accepts = []
        self.resume(text, base, end=end, found=found)

    def resume(self, text: str, base: int, *, end: bool, found: list[Span]) -> None:
        """Goes on with the undecided start."""
        automaton = self.pattern.automaton
        moves, others, accepting = automaton.moves, automaton.others, automaton.accepting
        touches = self.pattern.touches_right
        state = self._state
        last = self.start - base + self.pattern.max_length
        stop = min(len(text), last)
        for at in range(self._at - base, stop):
            char = text[at]
            if accepting[state] and (touches is None or not touches(char)):
                self._accepts.append(at + base)
            state = moves[state].get(char, others[state])
            if state == DEAD:
                self._decide(text, base, found)
                return
        more_may_come = stop == len(text) and not end
        complete = stop == last or not automaton.goes_on(state)
        if more_may_come and not (complete and (touches is None or not accepting[state])):
            self._at, self._state = stop + base, state
            return
        if accepting[state] and (touches is None or stop == len(text) or not touches(text[stop])):
            self._accepts.append(stop + base)
        self._decide(text, base, found)

    def _decide(self, text: str, base: int, found: list[Span]) -> None:
        start, self.start = self.start, IDLE
        self.clean = start + 1
        valid = self.pattern.valid
        accepts = self._accepts[-1:] if self.pattern.longest_only else self._accepts
        for accept in reversed(accepts):
            if valid is None or valid(text[start - base : accept - base]):
                found.append(Span(self.pattern, start, accept))
                self.clean = accept
                return
