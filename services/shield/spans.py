"""One span per shield and inspection, however many pieces its text came in, and what the shields did in numbers."""

from collections.abc import Sequence
from types import TracebackType
from typing import Final

from opentelemetry import trace
from opentelemetry.util.types import AttributeValue

from shieldmesh import context, telemetry
from shieldmesh.metrics import instruments
from shieldmesh.telemetry import Name, SpanName
from shieldmesh.v1 import policy_pb2

from .ledger import Failure, Judged, Release
from .shield import Shield

_DIRECTIONS: Final = {policy_pb2.DIRECTION_INPUT: "input", policy_pb2.DIRECTION_OUTPUT: "output"}
_ACTIONS: Final = {
    policy_pb2.ACTION_FLAG: "flag",
    policy_pb2.ACTION_REDACT: "redact",
    policy_pb2.ACTION_BLOCK: "block",
}


class ShieldSpans:
    """The spans of a set of shields, open inside the block.

    They are children of the span that is current on entry, and never current themselves: the shields of a set run side
    by side in one task, over many yields.

    Attributes:
        spans: One per shield, in the order of the set; a slow shield makes its own the current one in its task.
        worked: Seconds that each shield has worked so far, or waited for what works for it.
    """

    def __init__(
        self, shields: Sequence[Shield], direction: policy_pb2.Direction.ValueType = policy_pb2.DIRECTION_UNSPECIFIED
    ) -> None:
        self._names = [shield.rules.name for shield in shields]
        self._direction = _DIRECTIONS.get(direction, "unspecified")
        # What shields do for a policy that does not act counts in no metric: see `services.orchestrator.shadow`.
        self._shadow = context.SHADOW in context.current().values
        self.worked = [0.0] * len(shields)
        self.spans: list[trace.Span] = []
        self._findings = [0] * len(shields)
        self._strictest: list[policy_pb2.Action.ValueType] = [policy_pb2.ACTION_UNSPECIFIED] * len(shields)

    def __enter__(self) -> "ShieldSpans":
        tracer = telemetry.tracer()
        marks = {Name.SHADOW: True} if self._shadow else {}
        self.spans = [
            tracer.start_span(
                f"{SpanName.SHIELD} {name}", attributes={Name.SHIELD: name, Name.DIRECTION: self._direction, **marks}
            )
            for name in self._names
        ]
        return self

    def note(self, release: Release) -> None:
        """Counts what the shields did. To be called when there is something: not for every piece of a text."""
        acted: list[Judged | Failure] = [*release.findings, *release.failures]
        for each in acted:
            self._findings[each.shield] += 1
            self._strictest[each.shield] = max(self._strictest[each.shield], each.action)
            if not self._shadow:
                labels = self._labels(each.shield) | {Name.ACTION: _ACTIONS.get(each.action, "allow")}
                instruments().verdicts.add(1, labels)

    def work(self, shield: int, seconds: float) -> None:
        """Adds time that a shield has worked."""
        self.worked[shield] += seconds

    def fail(self, shield: int, error: str) -> None:
        """Marks the span of a shield that failed, and no other."""
        telemetry.fail(self.spans[shield], error)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None
    ) -> None:
        for number, span in enumerate(self.spans):
            attributes: dict[str, AttributeValue] = {Name.WORKED: self.worked[number]}
            if error is not None:
                # No shield failed: the call around them ended early.
                attributes[Name.CANCELLED] = True
            if self._findings[number]:
                attributes[Name.FINDINGS] = self._findings[number]
                attributes[Name.ACTION] = _ACTIONS.get(self._strictest[number], "allow")
            span.set_attributes(attributes)
            if not self._shadow:
                instruments().inspections.record(self.worked[number], self._labels(number))
            span.end()

    def _labels(self, number: int) -> dict[str, str]:
        return dict(instruments().labels({Name.SHIELD: self._names[number], Name.DIRECTION: self._direction}))
