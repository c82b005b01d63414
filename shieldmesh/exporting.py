"""Where spans go: over OTLP when OpenTelemetry's environment variables say so, else nowhere."""

import os
from collections.abc import Generator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from shieldmesh.interceptors.call import ServerIdentity


def exporter_from_environment() -> SpanExporter | None:
    """An OTLP exporter when `OTEL_EXPORTER_OTLP_ENDPOINT` is set; it reads the other OTEL_* variables by itself."""
    return OTLPSpanExporter() if "OTEL_EXPORTER_OTLP_ENDPOINT" in os.environ else None


@contextmanager
def tracing(server: ServerIdentity, exporter: SpanExporter | None) -> Generator[None]:
    """Records spans inside the block and hands the last ones to the exporter at its end."""
    provider = TracerProvider(
        resource=Resource.create(
            {
                "service.namespace": "shieldmesh",
                "service.name": server.service,
                "service.instance.id": server.instance,
            }
        ),
        shutdown_on_exit=False,
    )
    if exporter is not None:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.shutdown()
