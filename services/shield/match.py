"""Match shields: patterns over a text, decided as early as they can be."""

from collections.abc import Sequence
from typing import Literal

from shieldmesh.v1 import policy_pb2

from .matching.matcher import Matcher, Matching
from .matching.pattern import Pattern
from .matching.scanner import Span
from .shield import Finding, Lane, Progress, Rules


class MatchShield:
    """Looks for patterns. Immutable, so one serves any number of streams."""

    kind: Literal["match"] = "match"

    def __init__(self, rules: Rules, patterns: Sequence[Pattern]) -> None:
        self.rules = rules
        self.patterns = tuple(p for p in patterns if rules.action_for(p.kind) != policy_pb2.ACTION_ALLOW)
        holding = [pattern for pattern in self.patterns if rules.holds(pattern.kind)]
        watching = [pattern for pattern in self.patterns if not rules.holds(pattern.kind)]
        self._holding = Matcher(holding) if holding else None
        self._watching = Matcher(watching) if watching else None

    def lane(self) -> Lane:
        """A fresh view of a new text."""
        return MatchLane(
            self._holding.begin() if self._holding else None, self._watching.begin() if self._watching else None
        )


class MatchLane:
    """One text as a match shield sees it."""

    __slots__ = ("_holding", "_seen", "_watching")

    def __init__(self, holding: Matching | None, watching: Matching | None) -> None:
        """What text waits for, and what is only reported."""
        self._holding = holding
        self._watching = watching
        self._seen = 0

    def feed(self, text: str, *, end: bool) -> Progress:
        """Takes the next piece of the text and tells what is known now."""
        self._seen = watermark = decided = self._seen + len(text)
        findings: tuple[Finding, ...] = ()
        if self._holding is not None:
            if spans := self._holding.feed(text, end):
                findings = tuple(map(_finding, spans))
            watermark = decided = self._holding.decided
        if self._watching is not None:
            if spans := self._watching.feed(text, end):
                findings += tuple(map(_finding, spans))
            decided = min(decided, self._watching.decided)
        return Progress(findings, watermark, decided)


def _finding(span: Span) -> Finding:
    return Finding(span.pattern.kind, span.start, span.end, span.pattern.score)
