"""From OpenTelemetry's spans to the contract's."""

from collections.abc import Sequence

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from opentelemetry.trace import StatusCode, format_span_id, format_trace_id
from opentelemetry.util.types import AttributeValue

from shieldmesh.diagnostics.memory import EndedSpan
from shieldmesh.v1 import diagnostics_pb2


def to_proto(span: EndedSpan) -> diagnostics_pb2.Span:
    """A span that has ended, as the contract has it."""
    start, duration = Timestamp(), Duration()
    start.FromNanoseconds(span.start)
    duration.FromNanoseconds(max(0, span.end - span.start))
    resource = span.resource.attributes
    return diagnostics_pb2.Span(
        trace_id=format_trace_id(span.context.trace_id),
        span_id=format_span_id(span.context.span_id),
        parent_span_id=format_span_id(span.parent.span_id) if span.parent else "",
        name=span.name,
        service=str(resource.get("service.name", "")),
        instance=str(resource.get("service.instance.id", "")),
        kind=span.kind.name.lower(),
        start=start,
        duration=duration,
        failed=span.status.status_code is StatusCode.ERROR,
        attributes={name: _text(value) for name, value in span.attributes.items()},
    )


def _text(value: AttributeValue) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return ", ".join(map(str, value))
    return str(value)
