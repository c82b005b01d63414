"""One span and one duration per call and side, with exact parents, today's names and a status that tells the truth.

docs/adr/0002 says why these are not the interceptors of opentelemetry-instrumentation-grpc.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import grpc
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind

from shieldmesh.errors import MeshError
from shieldmesh.interceptors.call import ClientCall, ServerCall
from shieldmesh.metrics import instruments
from shieldmesh.telemetry import PROPAGATOR, Name, fail, tracer


@asynccontextmanager
async def serve(call: ServerCall) -> AsyncGenerator[None]:
    """Continues the caller's trace."""
    async with _span(call, PROPAGATOR.extract(call.metadata, Context()), []):
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
            span.set_attribute(Name.REASON, error.reason)
            raise
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
            raise
        finally:
            span.set_attribute(Name.MESSAGES_SENT, call.sent)
            failed = code in _SERVER_FAILURES
            _mark(span, code, failed=failed)
            _record(instruments().server_calls, call, code, failed=failed)


def send(call: ClientCall) -> None:
    """Opens a span for the call and sends its identity along; the span ends with the call, however that ends."""
    span = tracer().start_span(
        call.method,
        kind=SpanKind.CLIENT,
        attributes={Name.RPC_SYSTEM: "grpc", Name.RPC_METHOD: call.method, **_server(call.target)},
    )
    inside = trace.set_span_in_context(span)
    carrier: dict[str, str] = {}
    PROPAGATOR.inject(carrier, inside)
    call.metadata.extend(carrier.items())

    def done(code: grpc.StatusCode) -> None:
        # A call that we gave up ourselves, because its answer is known or nobody wants it any more, has not failed.
        failed = code is not grpc.StatusCode.OK and not call.given_up
        _mark(span, code, failed=failed)
        _record(instruments().client_calls, call, code, failed=failed, context=inside)
        span.end()

    call.when_done.append(done)


# Statuses that are the server's failure; the others are the caller's doing (semantic conventions for gRPC).
_SERVER_FAILURES: Final = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)


def _mark(span: trace.Span, code: grpc.StatusCode, *, failed: bool) -> None:
    span.set_attribute(Name.RPC_STATUS, code.name)
    if failed:
        fail(span, code.name)


def _record(
    durations: metrics.Histogram,
    call: ServerCall | ClientCall,
    code: grpc.StatusCode,
    *,
    failed: bool,
    context: Context | None = None,
) -> None:
    labels = {Name.RPC_SYSTEM: "grpc", Name.RPC_METHOD: call.method, Name.RPC_STATUS: code.name}
    if failed:
        labels[Name.ERROR_TYPE] = code.name
    durations.record(time.monotonic() - call.started, labels, context)


def _server(target: str) -> dict[str, str | int]:
    """Where a target is: `host:port`, `dns:///host:port`, or the path of a Unix socket."""
    address = target.rpartition("/")[2] if target.startswith("dns:") else target.removeprefix("unix:")
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        return {Name.SERVER_ADDRESS: address}
    return {Name.SERVER_ADDRESS: host, Name.SERVER_PORT: int(port)}
