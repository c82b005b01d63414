"""One span and one duration per call and side, with exact parents, today's names and a status that tells the truth.

docs/adr/0002 says why these are not the interceptors of opentelemetry-instrumentation-grpc.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from types import TracebackType
from typing import Final

import grpc
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind

from shieldmesh.errors import MeshError
from shieldmesh.interceptors.call import ClientCall, ServerCall
from shieldmesh.metrics import instruments
from shieldmesh.telemetry import PROPAGATOR, Name, fail, inside, tracer


def serve(call: ServerCall) -> AbstractContextManager[None]:
    """Continues the caller's trace."""
    return _Span(call, PROPAGATOR.extract(call.metadata, Context()), ())


def serve_edge(call: ServerCall) -> AbstractContextManager[None]:
    """Begins a trace of our own, linked to the caller's: a stranger decides neither its id nor its sampling."""
    outside = trace.get_current_span(PROPAGATOR.extract(call.metadata, Context())).get_span_context()
    return _Span(call, Context(), (Link(outside),) if outside.is_valid else ())


class _Span:
    __slots__ = ("_call", "_inside", "_span")

    def __init__(self, call: ServerCall, parent: Context, links: Sequence[Link]) -> None:
        self._call = call
        self._span = tracer().start_span(
            call.method, context=parent, kind=SpanKind.SERVER, attributes=_served(call.method), links=links
        )
        self._inside = inside(self._span)

    def __enter__(self) -> None:
        self._inside.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None
    ) -> None:
        code = grpc.StatusCode.OK
        marks = self._call.marks
        marks[Name.MESSAGES_SENT] = self._call.sent
        if isinstance(error, MeshError):
            code = error.code
            marks[Name.REASON] = error.reason
        elif isinstance(error, asyncio.CancelledError):
            code = grpc.StatusCode.CANCELLED
        failed = code in _SERVER_FAILURES
        _mark(self._span, code, marks, failed=failed)
        _record(instruments().server_calls, self._call, code, failed=failed)
        self._inside.__exit__(kind, error, place)
        self._span.end()


def send(call: ClientCall) -> None:
    """Opens a span for the call and sends its identity along; the span ends with the call, however that ends."""
    span = tracer().start_span(call.method, kind=SpanKind.CLIENT, attributes=_called(call.method, call.target))
    around = trace.set_span_in_context(span)
    carrier: dict[str, str] = {}
    PROPAGATOR.inject(carrier, around)
    call.metadata.extend(carrier.items())

    def done(code: grpc.StatusCode) -> None:
        # A call that we gave up ourselves, because its answer is known or nobody wants it any more, has not failed.
        failed = code is not grpc.StatusCode.OK and not call.given_up
        _mark(span, code, {}, failed=failed)
        _record(instruments().client_calls, call, code, failed=failed, context=around)
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


def _mark(span: trace.Span, code: grpc.StatusCode, marks: dict[str, str | int], *, failed: bool) -> None:
    marks[Name.RPC_STATUS] = code.name
    span.set_attributes(marks)
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
    durations.record(time.monotonic() - call.started, _labels(call.method, code.name, failed), context)


# What follows says the same of each call of a method, so it is said once. It is for reading only.
_once = lru_cache(maxsize=1024)


@_once
def _labels(method: str, status: str, failed: bool) -> Mapping[str, str]:
    labels = {Name.RPC_SYSTEM: "grpc", Name.RPC_METHOD: method, Name.RPC_STATUS: status}
    return labels | {Name.ERROR_TYPE: status} if failed else labels


@_once
def _served(method: str) -> Mapping[str, str]:
    return {Name.RPC_SYSTEM: "grpc", Name.RPC_METHOD: method}


@_once
def _called(method: str, target: str) -> Mapping[str, str | int]:
    return {Name.RPC_SYSTEM: "grpc", Name.RPC_METHOD: method, **_server(target)}


def _server(target: str) -> dict[str, str | int]:
    """Where a target is: `host:port`, `dns:///host:port`, or the path of a Unix socket."""
    address = target.rpartition("/")[2] if target.startswith("dns:") else target.removeprefix("unix:")
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        return {Name.SERVER_ADDRESS: address}
    return {Name.SERVER_ADDRESS: host, Name.SERVER_PORT: int(port)}
