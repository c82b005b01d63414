"""OpenTelemetry as this mesh uses it: one tracer, and every name of a span, attribute or metric in one table.

The library needs the API package alone; without an SDK everything here is a cheap no-op. Services install the SDK
with `shieldmesh.exporting`.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Final

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

PROPAGATOR: Final = TraceContextTextMapPropagator()
"""W3C Trace Context. Baggage is the session interceptor's business: only session values travel in it."""


class Name:
    """Names in spans and metrics. RPC names follow the semantic conventions for RPC; `shieldmesh.*` are our own."""

    RPC_SYSTEM: Final = "rpc.system.name"
    RPC_METHOD: Final = "rpc.method"
    RPC_STATUS: Final = "rpc.response.status_code"
    ERROR_TYPE: Final = "error.type"
    SESSION: Final = "session.id"
    TURN: Final = "shieldmesh.turn.id"
    TENANT: Final = "shieldmesh.tenant.id"
    PROFILE: Final = "shieldmesh.profile"
    MESSAGES_SENT: Final = "shieldmesh.rpc.messages_sent"
    SHIELD: Final = "shieldmesh.shield"


def tracer() -> trace.Tracer:
    """The tracer of this library and its services."""
    return trace.get_tracer("shieldmesh")


@contextmanager
def span(name: str, attributes: Mapping[str, AttributeValue] | None = None) -> Generator[trace.Span]:
    """A span around the block, current inside it; an exception that leaves the block marks it with its type alone.

    Exception texts can hold what users said, so they are never recorded.
    """
    with tracer().start_as_current_span(
        name, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield current
        except BaseException as error:
            fail(current, type(error).__name__)
            raise


def fail(current: trace.Span, error_type: str) -> None:
    """Marks a span as failed, with a type and no text."""
    current.set_attribute(Name.ERROR_TYPE, error_type)
    current.set_status(trace.StatusCode.ERROR)


def span_id(current: trace.Span) -> str:
    """The span's id as 16 hexadecimal digits, or "" when nothing is traced."""
    context = current.get_span_context()
    return trace.format_span_id(context.span_id) if context.is_valid else ""


def trace_id() -> str:
    """The current trace's id as 32 hexadecimal digits, or "" when nothing is traced."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else ""
