"""Several patterns' way through one text that is still being written."""

from collections.abc import Sequence
from typing import Final

from .opener import gate, loops, opener
from .pattern import Pattern
from .scanner import IDLE, Scanner, Span

MOST_PATIENCE: Final = 64
NOTHING: Final = "\n"
"""Stands before every text, so that each start has a character before it. It is in no pattern's left boundary, and no
pattern begins with it."""


class Matcher:
    """Patterns, compiled. Immutable, so one serves any number of texts."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        """There is at least one pattern."""
        self.patterns = tuple(patterns)
        self.gate = gate(self.patterns)
        self.opener = opener(self.patterns)
        self.openers = [opener([pattern]) for pattern in self.patterns]
        looped = [pattern.max_length for pattern in self.patterns if loops(pattern.automaton)]
        self.patience = min([MOST_PATIENCE, *looped])
        """Code points up to which an open start is searched again rather than followed: too few for any loop's end."""
        self.by_first: dict[str, tuple[int, ...]] = {}
        """Which patterns can begin with a character."""
        for number, pattern in enumerate(self.patterns):
            for char in pattern.automaton.moves[0]:
                self.by_first[char] = (*self.by_first.get(char, ()), number)

    def begin(self) -> "Matching":
        """A fresh text."""
        return Matching(self)


class Matching:
    """One text under a matcher. Remembers no more of it than what an undecided start could still need.

    Most text comes and goes by one search: nothing begins in it, or all from some place on is the beginning of one
    match. Only where more is there than a beginning is each start followed by a scanner of its own.

    Attributes:
        decided: All later spans start at or after this offset.
    """

    __slots__ = ("_matcher", "_open", "_scanners", "_search", "_tail", "_untried", "decided")

    def __init__(self, matcher: Matcher) -> None:
        self.decided = 0
        self._search = matcher.gate.search
        self._matcher = matcher
        self._scanners: dict[int, Scanner] = {}
        self._open: list[int] = []
        self._tail = NOTHING
        self._untried = 0

    @property
    def _base(self) -> int:
        """Where the tail begins: one character before what is undecided, for the left boundary of the next start."""
        return self.decided - 1

    def feed(self, text: str, end: bool) -> Sequence[Span]:  # the hot path: keywords cost
        """Takes the next piece of the text; what was found by now."""
        buffer = self._tail + text
        if self._open:
            return self._follow(buffer, end=end)
        hit = self._search(buffer)
        if hit is None:
            start = len(buffer)
        else:
            start = hit.start() if hit.lastindex else hit.start() + 1
            runs_on = hit.end() == len(buffer) and not end
            if not runs_on or not start or len(buffer) - start >= self._matcher.patience:
                return self._follow(buffer, end=end)
        self.decided = self._untried = self.decided + start - 1
        self._tail = buffer[start - 1 :]
        return ()

    def _follow(self, buffer: str, *, end: bool) -> Sequence[Span]:
        found: list[Span] = []
        base = self._base
        again = self._resume(buffer, base, end=end, found=found) if self._open else ()
        self._try_starts(buffer, base, again, end=end, found=found)
        self._untried = base + len(buffer)
        self.decided = min([self._untried, *(self._scanners[number].start for number in self._open)])
        self._tail = buffer[self._base - base :]
        return found

    def _resume(self, buffer: str, base: int, *, end: bool, found: list[Span]) -> Sequence[int]:
        """Goes on with what is undecided; those that are decided now and have to try the starts behind again."""
        waiting, self._open = self._open, []
        again: list[int] = []
        for number in waiting:
            scanner = self._scanners[number]
            scanner.resume(buffer, base, end=end, found=found)
            (again if scanner.start == IDLE else self._open).append(number)
        return again

    def _try_starts(self, buffer: str, base: int, again: Sequence[int], *, end: bool, found: list[Span]) -> None:
        """Tries each possible start with each pattern that has not tried it yet."""
        matcher, scanners = self._matcher, self._scanners
        fresh = self._untried - base
        first = min([fresh, *(scanners[number].clean - base for number in again)])
        for hit in matcher.opener.finditer(buffer, first):
            position = hit.start()
            for number in matcher.by_first[buffer[position]]:
                scanner = scanners.get(number)
                if scanner is not None and (scanner.start != IDLE or scanner.clean > base + position):
                    continue
                if (position >= fresh or number in again) and matcher.openers[number].match(buffer, position):
                    if scanner is None:
                        scanner = scanners[number] = Scanner(matcher.patterns[number])
                    scanner.begin(base + position, buffer, base, end=end, found=found)
                    if scanner.start != IDLE:
                        self._open.append(number)
