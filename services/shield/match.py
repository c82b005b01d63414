"""Match shields: patterns over a text, decided as early as they can be."""

from collections.abc import Sequence
from typing import Literal

from shieldmesh.v1 import policy_pb2

from .matching.opener import opener
from .matching.pattern import Pattern
from .matching.scanner import IDLE, Scanner, Span
from .shield import Finding, Lane, Progress, Rules


class MatchShield:
    """Looks for patterns. Immutable, so one serves any number of streams."""

    kind: Literal["match"] = "match"

    def __init__(self, rules: Rules, patterns: Sequence[Pattern]) -> None:
        self.rules = rules
        self.patterns = tuple(p for p in patterns if rules.action_for(p.kind) != policy_pb2.ACTION_ALLOW)
        self.holds = tuple(rules.holds(pattern.kind) for pattern in self.patterns)
        self.openers = [opener([pattern]) for pattern in self.patterns]
        self.opener = opener(self.patterns) if self.patterns else None
        self.by_first: dict[str, tuple[int, ...]] = {}
        """Which patterns can begin with a character."""
        for number, pattern in enumerate(self.patterns):
            for char in pattern.automaton.moves[0]:
                self.by_first[char] = (*self.by_first.get(char, ()), number)

    def lane(self) -> Lane:
        """A fresh view of a new text."""
        # A normalised view (folded characters, offsets mapped back) fits here: a lane that feeds the folded text to
        # this one and maps the offsets of its Progress.
        return MatchLane(self)


class MatchLane:
    """One text as a match shield sees it. Remembers no more of it than what an undecided start could still need."""

    __slots__ = ("_base", "_open", "_scanners", "_shield", "_tail")

    def __init__(self, shield: MatchShield) -> None:
        self._shield = shield
        self._scanners = [Scanner(pattern) for pattern in shield.patterns]
        self._open: list[int] = []
        self._tail = ""
        self._base = 0

    def feed(self, text: str, *, end: bool) -> Progress:
        """Takes the next piece of the text and tells what is known now."""
        buffer = self._tail + text
        opener = self._shield.opener
        if not self._open and (opener is None or opener.search(buffer, len(self._tail)) is None):
            return self._clear(buffer)  # most text comes and goes here
        found: list[Span] = []
        again = self._resume(buffer, end=end, found=found) if self._open else ()
        self._try_starts(buffer, again, end=end, found=found)
        return self._progress(buffer, found)

    def _clear(self, buffer: str) -> Progress:
        """Nothing is open and nothing begins. One character stays, for the left boundary of the next start."""
        total = self._base + len(buffer)
        self._tail = buffer[-1:]
        self._base = total - len(self._tail)
        return Progress((), total, total)

    def _resume(self, buffer: str, *, end: bool, found: list[Span]) -> Sequence[int]:
        """Goes on with what is undecided; those that are decided now and have to try the starts behind again."""
        waiting, self._open = self._open, []
        again: list[int] = []
        for number in waiting:
            scanner = self._scanners[number]
            scanner.resume(buffer, self._base, end=end, found=found)
            (again if scanner.start == IDLE else self._open).append(number)
        return again

    def _try_starts(self, buffer: str, again: Sequence[int], *, end: bool, found: list[Span]) -> None:
        """Tries each possible start with each pattern that has not tried it yet."""
        shield, base, scanners = self._shield, self._base, self._scanners
        if shield.opener is None:
            return
        fresh = len(self._tail)
        first = min([fresh, *(scanners[number].clean - base for number in again)]) if again else fresh
        for hit in shield.opener.finditer(buffer, first):
            position = hit.start()
            for number in shield.by_first[buffer[position]]:
                scanner = scanners[number]
                if scanner.start != IDLE or scanner.clean > base + position:
                    continue
                if (position >= fresh or number in again) and shield.openers[number].match(buffer, position):
                    scanner.begin(base + position, buffer, base, end=end, found=found)
                    if scanner.start != IDLE:
                        self._open.append(number)

    def _progress(self, buffer: str, found: list[Span]) -> Progress:
        total = watermark = decided = self._base + len(buffer)
        for number in self._open:
            start = self._scanners[number].start
            decided = min(decided, start)
            if self._shield.holds[number]:
                watermark = min(watermark, start)
        # One character more stays, for the left boundary of the next start.
        keep = max(self._base, decided - 1)
        self._tail = buffer[keep - self._base :] if total > keep else ""
        self._base = keep
        findings = tuple(Finding(span.pattern.kind, span.start, span.end, span.pattern.score) for span in found)
        return Progress(findings, watermark, decided)
