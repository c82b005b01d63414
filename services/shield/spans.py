"""One span per shield and inspection, however many pieces its text came in."""

from collections.abc import Sequence
from types import TracebackType

from opentelemetry import trace

from shieldmesh import telemetry
from shieldmesh.telemetry import Name

from .shield import Shield


class ShieldSpans:
    """The spans of a set of shields, open inside the block.

    They are children of the span that is current on entry, and never current themselves: the shields of a set run side
    by side in one task, over many yields.
    """

    def __init__(self, shields: Sequence[Shield]) -> None:
        self._shields = shields
        self._spans: list[trace.Span] = []

    def __enter__(self) -> "ShieldSpans":
        tracer = telemetry.tracer()
        self._spans = [
            tracer.start_span(f"shield {shield.rules.name}", attributes={Name.SHIELD: shield.rules.name})
            for shield in self._shields
        ]
        return self

    def fail(self, shield: int, error: str) -> None:
        """Marks the span of a shield that failed."""
        telemetry.fail(self._spans[shield], error)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None
    ) -> None:
        for span in self._spans:
            span.end()
