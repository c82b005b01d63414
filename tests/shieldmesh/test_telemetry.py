"""Spans tell how work ended, and never what anybody said."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes, rpc_attributes, server_attributes

from shieldmesh import context, telemetry
from shieldmesh.errors import NotFoundError
from shieldmesh.telemetry import Name


def test_names_are_those_of_the_conventions() -> None:
    """Every attribute that the semantic conventions name is called so here."""
    modules = (rpc_attributes, gen_ai_attributes, server_attributes)
    known = {value for module in modules for value in vars(module).values() if isinstance(value, str)}
    ours = {value for name, value in vars(Name).items() if name.isupper()}
    conventional = {name for name in ours if name.startswith(("rpc.", "gen_ai.", "server."))}
    assert conventional
    assert conventional <= known


def test_an_exception_marks_its_span_without_its_text() -> None:
    """A span that an exception leaves is failed, with the exception's type and nothing of what it says."""
    with recorded() as exporter, pytest.raises(ValueError, match="secret"), telemetry.span("work"):
        raise ValueError("my secret")
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is trace.StatusCode.ERROR
    assert attributes(span) == {Name.ERROR_TYPE: "ValueError"}
    assert "secret" not in span.to_json()


def test_a_typed_error_marks_its_span_with_its_reason() -> None:
    """Errors of the mesh are known by their reason."""
    with recorded() as exporter, pytest.raises(NotFoundError), telemetry.span("work"):
        raise NotFoundError("there is no such thing", reason="MODEL_NOT_FOUND")
    assert attributes(exporter.get_finished_spans()[0]) == {Name.ERROR_TYPE: "MODEL_NOT_FOUND"}


def test_work_that_is_given_up_has_not_failed() -> None:
    """A cancellation ends a span without making it a failure."""
    with recorded() as exporter, pytest.raises(asyncio.CancelledError), telemetry.span("work"):
        raise asyncio.CancelledError
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is trace.StatusCode.UNSET
    assert attributes(span) == {Name.CANCELLED: True}


async def test_spans_of_threads_have_the_parent_of_their_call() -> None:
    """A span opened in a thread of `run_in_thread` is a child of the caller's."""
    with recorded() as exporter, telemetry.span("outer"):
        await context.run_in_thread(inner)
    inside, outside = exporter.get_finished_spans()
    assert inside.parent == outside.get_span_context()


def inner() -> None:
    with telemetry.span("inner"):
        pass


@contextmanager
def recorded() -> Generator[InMemorySpanExporter]:
    tracers, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    with telemetry.recording(tracers, MeterProvider(shutdown_on_exit=False)):
        yield exporter


def attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})
