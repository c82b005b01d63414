"""One span per call and side, with exact parents, today's attribute names and a status that tells the truth.

docs/adr/0002 says why these are not the interceptors of opentelemetry-instrumentation-grpc.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import grpc
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind

from shieldmesh.errors import MeshError
from shieldmesh.interceptors.call import ClientCall, ServerCall
from shieldmesh.telemetry import PROPAGATOR, Name, fail, tracer


@asynccontextmanager
async def serve(call: ServerCall) -> AsyncGenerator[None]:
    """Continues the caller's trace."""
    async with _span(call, PROPAGATOR.extract(call.metadata), []):
        yield


@asynccontextmanager
async def serve_edge(call: ServerCall) -> AsyncGenerator[None]:
    """Begins a trace of our own, linked to the caller's: a stranger decides neither its id nor its sampling."""
    outside = trace.get_current_span(PROPAGATOR.extract(call.metadata, Context())).get_span_context()
    async with _span(call, Context(), [Link(outside)] if outside.is_valid else []):
        yield


@asynccontextmanager
async def _span(call: ServerCall, parent: Context, links: list[Link]) -> AsyncGenerator[None]:
    with tracer().start_as_current_span(
        call.method,
        context=parent,
        kind=SpanKind.SERVER,
        attributes={Name.RPC_SYSTEM: "grpc", Name.RPC_METHOD: call.method},
        links=links,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        code = grpc.StatusCode.OK
        try:
            yield
        except MeshError as error:
            code = error.code
            span.set_attribute(Name.ERROR_TYPE, error.reason)
            raise
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
            raise
        finally:
            span.set_attribute(Name.MESSAGES_SENT, call.sent)
            _end(span, code, server=True)


def send(call: ClientCall) -> None:
    """Opens a span for the call and sends its identity along; the span ends with the call, however that ends."""
    span = tracer().start_span(
        call.method,
        kind=SpanKind.CLIENT,
        attributes={Name.RPC_SYSTEM: "grpc", Name.RPC_METHOD: call.method},
    )
    carrier: dict[str, str] = {}
    PROPAGATOR.inject(carrier, trace.set_span_in_context(span))
    call.metadata.extend(carrier.items())

    def done(code: grpc.StatusCode) -> None:
        _end(span, code, server=False)
        span.end()

    call.when_done.append(done)


# Statuses that are the server's failure; the others are the caller's doing (semantic conventions for gRPC).
_SERVER_FAILURES = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)


def _end(span: trace.Span, code: grpc.StatusCode, *, server: bool) -> None:
    span.set_attribute(Name.RPC_STATUS, code.name)
    if code in _SERVER_FAILURES if server else code is not grpc.StatusCode.OK:
        fail(span, code.name)
