"""Spans and metrics reach a real OTLP receiver and a real scrape, and nobody waits for those that are not there."""

import socket
import urllib.error
import urllib.request
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shieldmesh import context, exporting, telemetry
from shieldmesh.context import RequestContext
from shieldmesh.interceptors.call import ServerIdentity
from shieldmesh.metrics import TURNS, instruments
from shieldmesh.telemetry import Name

# What these export has no types.
TRACES: Any = trace_service_pb2_grpc
METRICS: Any = metrics_service_pb2_grpc

IDENTITY = ServerIdentity("shield", "shield-1")


def test_spans_and_metrics_go_to_the_endpoint_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """With OTEL_EXPORTER_OTLP_ENDPOINT the last span and value arrive, the value with its trace as exemplar."""
    with receiving() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{receiver.target}")
        with (
            exporting.providing(
                IDENTITY, processors=exporting.otlp_processors(), readers=exporting.otlp_readers()
            ) as providers,
            telemetry.recording(providers.tracers, providers.meters),
            telemetry.span("work"),
        ):
            instruments().turns.record(1.5, {Name.PROFILE: "default"})
    (span,) = [
        span
        for each in receiver.traces
        for spans in each.resource_spans
        for scope in spans.scope_spans
        for span in scope.spans
    ]
    ((metric,),) = [
        scope.metrics for each in receiver.metrics for found in each.resource_metrics for scope in found.scope_metrics
    ]
    (point,) = metric.histogram.data_points
    (exemplar,) = point.exemplars
    assert span.name == "work"
    assert (metric.name, point.sum) == (TURNS.name, 1.5)
    assert (exemplar.trace_id, exemplar.span_id) == (span.trace_id, span.span_id)
    resource = {
        each.key: each.value.string_value for each in receiver.metrics[0].resource_metrics[0].resource.attributes
    }
    assert resource["service.name"] == "shield"
    assert resource["service.instance.id"] == "shield-1"


@pytest.mark.parametrize(
    ("environment", "traces", "metrics"),
    [
        ({}, 0, 0),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, 1, 1),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_METRICS_EXPORTER": "none"}, 1, 0),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:1"}, 0, 1),
    ],
)
def test_the_environment_decides_what_is_sent(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], traces: int, metrics: int
) -> None:
    """Each signal can be sent on its own, and none is without an endpoint."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    processors, readers = exporting.otlp_processors(), exporting.otlp_readers()
    ended: tuple[Any, ...] = (*processors, *readers)  # `shutdown` of readers has no types
    for each in ended:
        each.shutdown()
    assert (len(processors), len(readers)) == (traces, metrics)


def test_every_span_knows_its_policy() -> None:
    """Whatever begins under a policy bears its version; what begins under none bears nothing."""
    spans = InMemorySpanExporter()
    with (
        exporting.providing(IDENTITY, processors=[SimpleSpanProcessor(spans)], readers=[]) as providers,
        telemetry.recording(providers.tracers, providers.meters),
    ):
        with context.use(RequestContext(profile="p", profile_version="v-1")), telemetry.span("under one"):
            pass
        with telemetry.span("under none"):
            pass
    versions = {span.name: (span.attributes or {}).get(Name.PROFILE_VERSION) for span in spans.get_finished_spans()}
    assert versions == {"under one": "v-1", "under none": None}


def test_a_protocol_that_is_not_spoken_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTLP over HTTP is refused with a message that says what to set."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    with pytest.raises(SystemExit, match="expected grpc"):
        exporting.otlp_processors()


def test_metrics_are_served_until_the_end() -> None:
    """`/metrics` has the values with their labels and units in Prometheus' names; after the block nobody answers."""
    address = free_address()
    with (
        exporting.prometheus(address) as readers,
        exporting.providing(IDENTITY, processors=[], readers=readers) as providers,
        telemetry.recording(providers.tracers, providers.meters),
    ):
        instruments().turns.record(1.5, {Name.PROFILE: "default"})
        page = scrape(address)
    assert 'shieldmesh_turn_duration_seconds_sum{shieldmesh_profile="default"} 1.5' in page
    assert 'service_name="shield"' in page
    with pytest.raises(urllib.error.URLError):
        scrape(address)


def test_a_port_in_use_ends_the_process_with_its_address() -> None:
    """A second service at the same address is told so."""
    address = free_address()
    with exporting.prometheus(address), pytest.raises(SystemExit, match=f"cannot serve metrics at {address}"):
        exporting.prometheus(address).__enter__()


def test_no_address_serves_nothing() -> None:
    """Without the setting there is no reader and no server."""
    with exporting.prometheus("") as readers:
        assert readers == []


def scrape(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as page:  # our own server
        text: str = page.read().decode()
        return text


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


class Receiver(trace_service_pb2_grpc.TraceServiceServicer, metrics_service_pb2_grpc.MetricsServiceServicer):
    """Takes what an OTLP exporter sends."""

    def __init__(self) -> None:
        self.target = ""
        self.traces: list[trace_service_pb2.ExportTraceServiceRequest] = []
        self.metrics: list[metrics_service_pb2.ExportMetricsServiceRequest] = []

    def Export(self, request: Any, context: object) -> Any:  # noqa: N802  # the contract's name, of both services
        del context
        if isinstance(request, trace_service_pb2.ExportTraceServiceRequest):
            self.traces.append(request)
            return trace_service_pb2.ExportTraceServiceResponse()
        self.metrics.append(request)
        return metrics_service_pb2.ExportMetricsServiceResponse()


@contextmanager
def receiving() -> Generator[Receiver]:
    receiver = Receiver()
    server = grpc.server(ThreadPoolExecutor(2))
    TRACES.add_TraceServiceServicer_to_server(receiver, server)
    METRICS.add_MetricsServiceServicer_to_server(receiver, server)
    receiver.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield receiver
    finally:
        server.stop(None).wait()
