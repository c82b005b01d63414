"""What a mesh says about itself during a test: spans, metrics and log lines, through the pipelines of production."""

import asyncio
import io
import json
import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog
from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace import format_span_id, format_trace_id

from shieldmesh import logs, telemetry
from shieldmesh.interceptors.call import ServerIdentity

TOO_LATE = "ExecuteBatchError raised in core by servicer method"
"""What grpc.aio says when a call ends well just as its caller leaves. Nobody can do anything about it."""
POLLER = "Exception in callback PollerCompletionQueue._handle_events("
"""All loops of a process share grpc.aio's poller. One can be woken for what another has taken, or be given what comes
too late for one that was closed by then: an earlier test's. A service has one loop."""


class SpanLedger(SpanProcessor):
    """Every span, those that are still open apart."""

    def __init__(self) -> None:
        self.open: dict[int, str] = {}
        self.ended: list[ReadableSpan] = []

    def traces(self) -> dict[str, str]:
        """The trace of each span that has ended, by its id, both in hexadecimal digits."""
        contexts = [span.get_span_context() for span in self.ended]
        return {format_span_id(context.span_id): format_trace_id(context.trace_id) for context in contexts if context}

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        del parent_context
        self.open[span.get_span_context().span_id] = span.name

    def on_end(self, span: ReadableSpan) -> None:
        del self.open[_span_id(span)]
        self.ended.append(span)


@dataclass(slots=True)
class Observed:
    """What was said so far."""

    spans: SpanLedger = field(default_factory=SpanLedger)
    reader: InMemoryMetricReader = field(default_factory=InMemoryMetricReader)
    stream: io.StringIO = field(default_factory=io.StringIO)

    def lines(self) -> list[dict[str, Any]]:
        """The log lines."""
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def warnings(self) -> list[dict[str, Any]]:
        """The lines that say that something is wrong: a context that could not be detached, a task that failed."""
        loud = [line for line in self.lines() if line["level"] not in {"debug", "info"}]
        return [line for line in loud if not _of_other_loops(line) and not line["event"].startswith(TOO_LATE)]

    def sums(self, metric: str, label: str) -> Mapping[str, float]:
        """The sum of a histogram by one of its labels."""
        sums: dict[str, float] = {}
        data = self.reader.get_metrics_data()
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for each in scope.metrics:
                    for point in each.data.data_points if each.name == metric else ():
                        assert isinstance(point, HistogramDataPoint)
                        value = str((point.attributes or {})[label])
                        sums[value] = sums.get(value, 0) + point.sum
        return sums


@contextmanager
def observed(*, sampled: bool = True) -> Generator[Observed]:
    """Records inside the block what the services of this process say; traces only when they are sampled."""
    seen = Observed()
    tracers = TracerProvider(sampler=ALWAYS_ON if sampled else ALWAYS_OFF, shutdown_on_exit=False)
    meters = MeterProvider([seen.reader], shutdown_on_exit=False)
    tracers.add_span_processor(seen.spans)
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    logs.configure(ServerIdentity("mesh", "mesh-1"), "json", "info", seen.stream)
    # Loggers that other tests share must not keep this stream.
    structlog.configure(cache_logger_on_first_use=False)
    asyncio.get_running_loop().set_exception_handler(logs.handle_loop_error)
    try:
        with telemetry.recording(tracers, meters):
            yield seen
    finally:
        root.handlers, root.level = handlers, level
        structlog.reset_defaults()
        tracers.shutdown()
        meters.shutdown()


def _of_other_loops(line: Mapping[str, Any]) -> bool:
    event, exception = str(line["event"]), str(line.get("exception"))
    woken = exception.startswith("BlockingIOError at ")
    closed = exception.startswith("RuntimeError at ") and exception.endswith(" _check_closed")
    return event.startswith(POLLER) and (woken or closed)


def _span_id(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.span_id
