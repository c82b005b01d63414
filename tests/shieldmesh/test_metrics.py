"""Metrics have the names of one table, bounded labels, and the trace of the work that they were recorded in."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics, rpc_metrics
from opentelemetry.semconv.metrics import http_metrics

from shieldmesh import metrics, telemetry
from shieldmesh.labels import DISTINCT, OTHER, BoundedLabels
from shieldmesh.metrics import ModelLoad, instruments
from shieldmesh.telemetry import Name

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "observability.md"


def test_names_are_those_of_the_conventions() -> None:
    """What the semantic conventions name is called so here."""
    assert metrics.SERVER_CALLS.name == rpc_metrics.RPC_SERVER_CALL_DURATION
    assert metrics.CLIENT_CALLS.name == rpc_metrics.RPC_CLIENT_CALL_DURATION
    assert metrics.HTTP_REQUESTS.name == http_metrics.HTTP_SERVER_REQUEST_DURATION
    assert metrics.TOKENS.name == gen_ai_metrics.GEN_AI_CLIENT_TOKEN_USAGE
    assert metrics.FIRST_TOKEN.name == gen_ai_metrics.GEN_AI_SERVER_TIME_TO_FIRST_TOKEN
    assert metrics.TOKEN_TIME.name == gen_ai_metrics.GEN_AI_SERVER_TIME_PER_OUTPUT_TOKEN


def test_the_document_lists_every_metric() -> None:
    """docs/observability.md has a row for each metric, with its unit."""
    rows = DOCUMENT.read_text().splitlines()
    missing = [
        each.name
        for each in metrics.ALL
        if not [row for row in rows if row.startswith(f"| `{each.name}` | {each.unit} |")]
    ]
    assert not missing


def test_labels_beyond_the_bound_are_called_other() -> None:
    """The first values of a label keep their names, each label for itself."""
    labels = BoundedLabels(distinct=2)
    assert [labels.value("tenant", value) for value in ("a", "b", "c", "a", "d")] == ["a", "b", OTHER, "a", OTHER]
    assert labels.value("profile", "c") == "c"


def test_tenants_without_number_make_no_series_without_number() -> None:
    """However many tenants come, the number of series stays bounded, and no value is lost."""
    with recorded() as reader:
        for number in range(500):
            instruments().turns.record(1.0, instruments().labels({Name.TENANT: f"tenant-{number}"}))
    points = collected(reader)[metrics.TURNS.name].data.data_points
    assert len(points) == DISTINCT + 1
    assert sum(getattr(point, "count", 0) for point in points) == 500


@pytest.mark.parametrize(("sampler", "traced"), [(ALWAYS_ON, True), (ALWAYS_OFF, False)])
def test_values_count_with_and_without_a_trace(sampler: Sampler, *, traced: bool) -> None:
    """A value recorded inside a sampled span carries its trace; one inside an unsampled span counts all the same."""
    with recorded(sampler) as reader, telemetry.span("work") as span:
        instruments().tokens.record(7, {Name.TOKEN_TYPE: "output"})
    (point,) = collected(reader)[metrics.TOKENS.name].data.data_points
    assert getattr(point, "sum", 0) == 7
    traces = [exemplar.trace_id for exemplar in point.exemplars]
    assert traces == ([span.get_span_context().trace_id] if traced else [])


def test_models_are_asked_when_somebody_looks() -> None:
    """The gauges show the load of the moment of the collection."""
    load = ModelLoad("smollm2", waiting=1, running=2)
    with recorded() as reader:
        instruments().watch_models(lambda: [load])
        assert gauges(reader) == {"shieldmesh.model.waiting": 1, "shieldmesh.model.running": 2}
        load = ModelLoad("smollm2", waiting=0, running=3)
        assert gauges(reader) == {"shieldmesh.model.waiting": 0, "shieldmesh.model.running": 3}


def test_providers_change_with_the_block() -> None:
    """Inside `recording` everything goes to its providers, afterwards to what was before."""
    with recorded() as outer:
        with recorded() as inner:
            instruments().turns.record(1.0)
        instruments().turns.record(2.0)
    sums = [collected(reader)[metrics.TURNS.name].data.data_points[0] for reader in (inner, outer)]
    assert [getattr(point, "sum", 0) for point in sums] == [1.0, 2.0]


@contextmanager
def recorded(sampler: Sampler = ALWAYS_ON) -> Generator[InMemoryMetricReader]:
    reader = InMemoryMetricReader()
    tracers = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    with telemetry.recording(tracers, MeterProvider([reader], shutdown_on_exit=False)):
        yield reader


def collected(reader: InMemoryMetricReader) -> dict[str, Metric]:
    data = reader.get_metrics_data()
    assert data is not None
    return {
        each.name: each
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for each in scope.metrics
    }


def gauges(reader: InMemoryMetricReader) -> dict[str, Any]:
    return {name: getattr(each.data.data_points[0], "value", None) for name, each in collected(reader).items()}
