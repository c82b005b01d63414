"""Where spans and metrics go.

Over OTLP when OpenTelemetry's environment variables say so, and to Prometheus when the service's settings say where.
"""

import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from prometheus_client import CollectorRegistry, start_http_server

from shieldmesh import __version__, context
from shieldmesh.interceptors.call import ServerIdentity
from shieldmesh.settings import ServiceSettings, split_address
from shieldmesh.telemetry import Name

_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
_PROTOCOL: Final = "OTEL_EXPORTER_OTLP_PROTOCOL"
FLUSH_SECONDS: Final = 3.0
"""What the last exports may take when the process ends: nobody may be listening at the endpoint."""


@dataclass(frozen=True, slots=True)
class Providers:
    """What a process records with."""

    tracers: TracerProvider
    meters: MeterProvider

    def make_global(self) -> None:
        """Makes them OpenTelemetry's global ones, for this library and all others; possible once in a process."""
        trace.set_tracer_provider(self.tracers)
        metrics.set_meter_provider(self.meters)


@contextmanager
def recording(server: ServerIdentity, settings: ServiceSettings, *processors: SpanProcessor) -> Generator[None]:
    """Records the spans and metrics of this process inside the block; once in a process.

    Args:
        server: Who this process is.
        settings: What it was told.
        processors: Are given the spans beside what the environment asks for.

    Raises:
        SystemExit: metrics cannot be served where the settings say, or the environment asks for what is not there.
    """
    with (
        prometheus(settings.metrics_listen) as scraped,
        providing(
            server,
            processors=[*processors, *otlp_processors()],
            readers=[*scraped, *otlp_readers()],
            trace_ratio=settings.trace_ratio,
        ) as providers,
    ):
        providers.make_global()
        yield


@contextmanager
def providing(
    server: ServerIdentity,
    *,
    processors: Iterable[SpanProcessor],
    readers: Sequence[MetricReader],
    trace_ratio: float = 1.0,
) -> Generator[Providers]:
    """Providers that hand what they record to the processors and readers, the last of it at the end of the block.

    Args:
        server: Whose spans and metrics they are.
        processors: Are given the spans.
        readers: Collect the metrics.
        trace_ratio: The share of the traces that begin here which are recorded, 0 to 1. A trace that comes from a
            caller is recorded as the caller decided.
    """
    resource = Resource.create(
        {
            "service.namespace": "shieldmesh",
            "service.name": server.service,
            "service.instance.id": server.instance,
            "service.version": __version__,
        }
    )
    tracers = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(trace_ratio)), resource=resource, shutdown_on_exit=False
    )
    for processor in (_PolicyMark(), *processors):
        tracers.add_span_processor(processor)
    meters = MeterProvider(readers, resource=resource, shutdown_on_exit=False)
    try:
        yield Providers(tracers, meters)
    finally:
        _within_flush_seconds(tracers.shutdown, meters.shutdown)


class _PolicyMark(SpanProcessor):
    """Marks each span with the policy under which its work is done, where that is known when it begins."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """See `SpanProcessor`."""
        del parent_context
        version = context.current().profile_version
        if version:
            span.set_attribute(Name.PROFILE_VERSION, version)


def otlp_processors() -> list[SpanProcessor]:
    """Sends spans over OTLP when the environment names an endpoint; the exporter reads the other OTEL_* by itself.

    Raises:
        SystemExit: the environment asks for a protocol other than gRPC.
    """
    return [BatchSpanProcessor(OTLPSpanExporter())] if _wanted("TRACES") else []


def otlp_readers() -> list[MetricReader]:
    """Sends metrics, with exemplars, over OTLP when the environment names an endpoint.

    Raises:
        SystemExit: the environment asks for a protocol other than gRPC.
    """
    return [PeriodicExportingMetricReader(OTLPMetricExporter())] if _wanted("METRICS") else []


@contextmanager
def prometheus(listen: str) -> Generator[list[MetricReader]]:
    """Serves what its reader collects at `http://LISTEN/metrics` inside the block; nothing when `listen` is empty.

    Raises:
        SystemExit: the address is wrong, in use or not allowed; the message says so.
    """
    if not listen:
        yield []
        return
    registry = CollectorRegistry()
    host, port = split_address(listen, "metrics_listen")
    try:
        web, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise SystemExit(
            f"cannot serve metrics at {listen}: {error.strerror or error}; choose another metrics_listen"
        ) from None
    try:
        yield [PrometheusMetricReader(registry=registry, scope_info_enabled=False)]
    finally:
        web.shutdown()
        web.server_close()
        thread.join()


def _within_flush_seconds(*shutdowns: Callable[[], None]) -> None:
    # The exporters go on trying for longer than anybody wants to wait for the end of a process.
    threads = [threading.Thread(target=shutdown, daemon=True) for shutdown in shutdowns]
    deadline = time.monotonic() + FLUSH_SECONDS
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def _wanted(signal: str) -> bool:
    if os.environ.get(f"OTEL_{signal}_EXPORTER", "otlp") == "none":
        return False
    if not (os.environ.get(_ENDPOINT) or os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")):
        return False
    protocol = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL") or os.environ.get(_PROTOCOL, "grpc")
    if protocol != "grpc":
        raise SystemExit(f"{_PROTOCOL} is {protocol}: expected grpc; point {_ENDPOINT} at the backend's port for gRPC")
    return True
