"""The finished spans of a process's last turns, kept in memory for whoever asks."""

import threading
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import SpanContext, SpanKind, Status
from opentelemetry.util.types import AnyValue

from shieldmesh.telemetry import Name
from shieldmesh.v1 import diagnostics_pb2

TURNS: Final = 200
SPANS_PER_TURN: Final = 200

_OWN: Final = diagnostics_pb2.DESCRIPTOR.services_by_name["DiagnosticsService"].full_name + "/"
"""What the names of the spans of diagnostic calls begin with: looking at turns must not push them out."""


@dataclass(slots=True)
class EndedSpan:
    """What is kept of a span: a third of its weight, most of which is in lists of events and links that are empty."""

    name: str
    context: SpanContext
    parent: SpanContext | None
    kind: SpanKind
    resource: Resource
    status: Status
    attributes: Mapping[str, AnyValue]
    start: int
    end: int
    """Nanoseconds since 1970, as the start."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is left of a turn."""

    spans: tuple[EndedSpan, ...]
    """In the order in which they ended."""
    forgotten: int
    """How many there were before these."""


@dataclass(slots=True)
class _Trace:
    spans: deque[EndedSpan]
    ended: int = 0
    turns: set[str] = field(default_factory=set[str])


class SpanMemory(SpanProcessor):
    """A span processor that keeps each span as it ends; thread-safe.

    Args:
        turns: How many traces are kept: those in which something ended last.
        spans_per_turn: How many spans are kept of each: the last, for the ones that end last are around the others.
    """

    def __init__(self, turns: int = TURNS, spans_per_turn: int = SPANS_PER_TURN) -> None:
        self._lock = threading.Lock()
        self._max_turns = turns
        self._max_spans = spans_per_turn
        self._traces: OrderedDict[int, _Trace] = OrderedDict()
        self._by_turn: dict[str, int] = {}

    @property
    def turns(self) -> frozenset[str]:
        """The ids of the turns that are remembered."""
        with self._lock:
            return frozenset(self._by_turn)

    def on_end(self, span: ReadableSpan) -> None:
        """See `SpanProcessor`."""
        context, attributes = span.context, span.attributes
        if context is None or attributes is None or span.name.startswith(_OWN):
            return
        ended = EndedSpan(
            span.name,
            context,
            span.parent,
            span.kind,
            span.resource,
            span.status,
            attributes,
            span.start_time or 0,
            span.end_time or 0,
        )
        turn = attributes.get(Name.TURN)
        number = context.trace_id
        with self._lock:
            trace = self._traces.get(number)
            if trace is None:
                trace = self._traces[number] = _Trace(deque(maxlen=self._max_spans))
                if len(self._traces) > self._max_turns:
                    self._forget_oldest()
            else:
                self._traces.move_to_end(number)
            trace.spans.append(ended)
            trace.ended += 1
            if isinstance(turn, str):
                trace.turns.add(turn)
                self._by_turn[turn] = number

    def recall(self, turn_id: str) -> Remembered:
        """The spans of a turn that have ended so far; none when it is not known (any more)."""
        with self._lock:
            trace = self._traces.get(self._by_turn.get(turn_id, -1))
            if trace is None:
                return Remembered((), 0)
            return Remembered(tuple(trace.spans), trace.ended - len(trace.spans))

    def _forget_oldest(self) -> None:
        number, trace = self._traces.popitem(last=False)
        for turn in trace.turns:
            if self._by_turn.get(turn) == number:
                del self._by_turn[turn]
