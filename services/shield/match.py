"""Match shields: patterns over a text, decided as early as they can be."""

from collections.abc import Iterable, Sequence

from shieldmesh.v1 import policy_pb2

from .matching.folding import special
from .matching.matcher import Matcher, Matching
from .matching.pattern import Pattern
from .matching.scanner import Span
from .matching.view import View
from .shield import Finding, Progress, QuickLane, Rules


class MatchShield:
    """Looks for patterns. Immutable, so one serves any number of streams."""

    def __init__(self, rules: Rules, patterns: Sequence[Pattern], *, normalise: bool = True) -> None:
        """The patterns look at the normalised view of a text, or at the text itself."""
        self.rules = rules
        self._normalise = normalise
        self.patterns = tuple(p for p in patterns if rules.action_for(p.kind, p.score) != policy_pb2.ACTION_ALLOW)
        holding = [pattern for pattern in self.patterns if rules.holds(pattern.kind, pattern.score)]
        watching = [pattern for pattern in self.patterns if not rules.holds(pattern.kind, pattern.score)]
        self._holding = Matcher(holding) if holding else None
        self._watching = Matcher(watching) if watching else None

    def lane(self) -> QuickLane:
        """A fresh view of a new text."""
        lane = MatchLane(
            self._holding.begin() if self._holding else None, self._watching.begin() if self._watching else None
        )
        return ViewLane(lane) if self._normalise else lane


class ViewLane:
    """A lane on the normalised view of a text, told in offsets of the text itself.

    While a text shows itself, it costs next to nothing: there is a view only while something undecided shows something
    else.
    """

    __slots__ = ("_before", "_lane", "_special", "_view")

    def __init__(self, lane: "MatchLane") -> None:
        self._lane = lane
        self._view: View | None = None
        self._special = special().search
        self._before = ""

    def feed(self, text: str, *, end: bool) -> Progress:
        """Takes the next piece of the text and tells what is known now."""
        if self._view is not None or not (text.isascii() or self._special(text) is None):
            return self._feed_view(text, end=end)
        self._before = text or self._before
        return self._lane.feed(text, end=end)

    def _feed_view(self, text: str, *, end: bool) -> Progress:
        lane, view = self._lane, self._view
        if view is None:
            view = self._view = View(lane.seen, lane.seen + lane.shift, self._before[-1:])
            lane.shift = 0
        progress = lane.feed(view.feed(text), end=end)
        findings = tuple(
            # A finding ends behind the character that shows its last one; what shows nothing there stays in the text.
            Finding(each.kind, view.origin(each.start), view.origin(each.end - 1) + 1, each.score)
            for each in progress.findings
        )
        watermark, decided = view.origin(progress.watermark), view.origin(progress.decided)
        view.forget(progress.decided)
        if view.even:
            lane.shift, self._before, self._view = view.seen - view.shown, view.last, None
        return Progress(findings, watermark, decided)


class MatchLane:
    """One text under the patterns of a shield.

    Attributes:
        seen: Code points of the text so far.
        shift: What is added to every offset that is told.
    """

    __slots__ = ("_holding", "_watching", "seen", "shift")

    def __init__(self, holding: Matching | None, watching: Matching | None) -> None:
        """What text waits for, and what is only reported."""
        self._holding = holding
        self._watching = watching
        self.seen = 0
        self.shift = 0

    def feed(self, text: str, *, end: bool) -> Progress:
        """Takes the next piece of the text and tells what is known now."""
        self.seen += len(text)
        shift = self.shift
        findings: tuple[Finding, ...] = ()
        watermark = decided = self.seen + shift
        if self._holding is not None:
            spans = self._holding.feed(text, end)
            watermark = decided = self._holding.decided + shift
            if spans:
                findings = self._findings(spans)
        if self._watching is not None:
            spans = self._watching.feed(text, end)
            decided = min(decided, self._watching.decided + shift)
            if spans:
                findings += self._findings(spans)
        return Progress(findings, watermark, decided)

    def _findings(self, spans: Iterable[Span]) -> tuple[Finding, ...]:
        shift = self.shift
        return tuple(
            Finding(span.pattern.kind, span.start + shift, span.end + shift, span.pattern.score) for span in spans
        )
