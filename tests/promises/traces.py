"""Traces of turns: how they are recorded, and what the tree of one is."""

from collections import defaultdict
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

from opentelemetry import trace
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan

from shieldmesh import exporting, telemetry
from shieldmesh.interceptors.call import ServerIdentity
from shieldmesh.telemetry import Name

from .observing import SpanLedger

N: Final = 8
"""Shields of each set."""

Tree: TypeAlias = "tuple[str, tuple[Tree, ...]]"
"""A span's kind and name, and its children, sorted."""

# What a turn's tree is


def whole_turn(*, guarded: bool = True) -> Tree:
    """The tree of a turn, with N shields each way or none."""
    generate = hop("InferenceService/Generate", ("internal engine", ()), ("internal queue", ()))
    ways = [("Inspect", "input"), ("InspectStream", "output")] if guarded else []
    inspections = [
        hop(f"ShieldService/{method}", *((f"internal shield {way}-{number}", ()) for number in range(N)))
        for method, way in ways
    ]
    chat = "shieldmesh.v1.ChatService/Chat"
    inner = (f"server {chat}", tuple(sorted([generate, *inspections])))
    return (f"server {chat}", ((f"client {chat}", (inner,)),))


def hop(method: str, *children: Tree) -> Tree:
    """A call, seen from both sides."""
    return (f"client shieldmesh.v1.{method}", ((f"server shieldmesh.v1.{method}", tuple(sorted(children))),))


def tree(spans: Sequence[ReadableSpan]) -> Tree:
    """The tree of the spans; fails when it is not exactly one, or a span has no parent in it."""
    children: dict[int, list[ReadableSpan]] = defaultdict(list)
    for span in spans:
        children[span.parent.span_id if span.parent else 0].append(span)
    (root,) = children[0]
    grown = grow(root, children)
    assert size(grown) == len(spans), "a span's parent is not among the spans"
    return grown


def grow(span: ReadableSpan, children: dict[int, list[ReadableSpan]]) -> Tree:
    return (
        f"{span.kind.name.lower()} {span.name}",
        tuple(sorted(grow(child, children) for child in children[id_of(span)])),
    )


def size(grown: Tree) -> int:
    return 1 + sum(map(size, grown[1]))


def by_trace(spans: Sequence[ReadableSpan]) -> dict[int, list[ReadableSpan]]:
    traces: dict[int, list[ReadableSpan]] = defaultdict(list)
    for span in spans:
        traces[span.context.trace_id if span.context else 0].append(span)
    return traces


def one_turn_of(spans: Sequence[ReadableSpan]) -> str:
    """The turn that all calls of a trace say they belong to."""
    (turn,) = {str(attributes(span)[Name.TURN]) for span in spans if span.kind is trace.SpanKind.SERVER}
    return turn


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def named(spans: Sequence[ReadableSpan], name: str) -> list[ReadableSpan]:
    return [span for span in spans if span.name == name]


def failed(spans: Sequence[ReadableSpan]) -> list[ReadableSpan]:
    return [span for span in spans if span.status.status_code is trace.StatusCode.ERROR]


def id_of(span: ReadableSpan) -> int:
    return span.context.span_id if span.context else 0


# How it is recorded


class Recorded(SpanLedger):
    """Spans and metrics of the mesh, without those of this test's own client."""

    def __init__(self) -> None:
        super().__init__()
        self.reader = InMemoryMetricReader()

    def mesh(self) -> list[ReadableSpan]:
        """The spans that have ended, by start."""
        inside = [span for span in self.ended if span.parent is not None or span.kind is trace.SpanKind.SERVER]
        return sorted(inside, key=lambda span: span.start_time or 0)

    def counted(self, metric: str) -> int:
        """How many values a histogram holds."""
        data = self.reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        points = [
            point
            for scope in scopes
            for each in scope.metrics
            if each.name == metric
            for point in each.data.data_points
        ]
        return sum(getattr(point, "count", 0) for point in points)


@contextmanager
def recording(trace_ratio: float = 1.0) -> Generator[Recorded]:
    """Records what this process does inside the block, through the providers of production."""
    spans = Recorded()
    identity = ServerIdentity("mesh", "mesh-1")
    with (
        exporting.providing(identity, processors=[spans], readers=[spans.reader], trace_ratio=trace_ratio) as providers,
        telemetry.recording(providers.tracers, providers.meters),
    ):
        yield spans
