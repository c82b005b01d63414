"""Real spans of services that do not run."""

from collections.abc import Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from shieldmesh.diagnostics.memory import SpanMemory
from shieldmesh.telemetry import Name, fail


class Spans:
    """A service's spans, and its memory of them."""

    def __init__(self, service: str = "gateway", memory: SpanMemory | None = None) -> None:
        self.memory = memory or SpanMemory()
        resource = Resource({"service.name": service, "service.instance.id": f"{service}-1"})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(self.memory)

    def span(
        self,
        name: str,
        *,
        turn: str = "",
        parent: trace.Span | None = None,
        kind: trace.SpanKind = trace.SpanKind.INTERNAL,
        failure: str = "",
        attributes: Mapping[str, Any] | None = None,
        end: bool = True,
    ) -> trace.Span:
        """A span, ended unless that is left to the test."""
        around = trace.set_span_in_context(parent) if parent else None
        given = {**(attributes or {}), **({Name.TURN: turn} if turn else {})}
        span = self._provider.get_tracer("test").start_span(name, around, kind, given)
        if failure:
            fail(span, failure)
        if end:
            span.end()
        return span
