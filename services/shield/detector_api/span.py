"""One span and one duration per HTTP request served, in the caller's trace, by today's semantic conventions."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind
from starlette.requests import Request

from shieldmesh.metrics import instruments
from shieldmesh.telemetry import PROPAGATOR, Name, fail, tracer


@dataclass(slots=True)
class Served:
    """What became of a request.

    Attributes:
        status: Of the answer, to be set inside the block; 0: none was sent.
        reason: Of the error that it tells, in capitals.
    """

    status: int = 0
    reason: str = ""


@contextmanager
def served(request: Request, route: str) -> Generator[Served]:
    """Continues the caller's trace inside the block: this is an internal port, whose callers are believed.

    Answers from 500 on are the server's failure; others are none, and neither is a caller that went away.
    """
    labels = {Name.HTTP_METHOD: request.method, Name.HTTP_ROUTE: route, Name.URL_SCHEME: request.url.scheme}
    outcome = Served()
    started = time.monotonic()
    with tracer().start_as_current_span(
        f"{request.method} {route}",
        context=PROPAGATOR.extract(request.headers, Context()),
        kind=SpanKind.SERVER,
        attributes=labels,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield outcome
        finally:
            if outcome.status:
                labels[Name.HTTP_STATUS] = str(outcome.status)
                span.set_attribute(Name.HTTP_STATUS, outcome.status)
            else:
                span.set_attribute(Name.CANCELLED, value=True)
            if outcome.reason:
                span.set_attribute(Name.REASON, outcome.reason)
            if outcome.status >= 500:
                labels[Name.ERROR_TYPE] = str(outcome.status)
                fail(span, str(outcome.status))
            instruments().http_requests.record(time.monotonic() - started, labels)
