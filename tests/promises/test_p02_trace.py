"""P2: one turn is one trace with one root and exact parents, over every service and every parallel shield."""

import asyncio
import importlib
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import shieldmesh
from gateway.proxy import add_proxies
from services.inference.backend import Finish, FinishReason, GenerationRequest, Output, Step, Usage
from services.shield.catalogue import Catalogue
from services.shield.servicer import ShieldServicer
from services.shield.shield import Progress, Rules, Shield
from shieldmesh import calls, channels, exporting, telemetry
from shieldmesh.interceptors import edge
from shieldmesh.interceptors.call import ServerIdentity
from shieldmesh.interceptors.server import MeshInterceptor
from shieldmesh.telemetry import Name
from shieldmesh.v1 import chat_pb2, chat_pb2_grpc, message_pb2, policy_pb2, shield_pb2
from shieldmesh.v1.shield_pb2_grpc import ShieldServiceStub

from .fakes import HangingShields, registry, shields
from .mesh import TIMEOUT, Mesh, OpenService, deny, eventually, running
from .observing import SpanLedger

N: Final = 8
"""Shields of each set."""

GUARDED: Final[dict[str, Any]] = {
    way: {"shields": [deny("nightfall", name=f"{way}-{number}") for number in range(N)]} for way in ("input", "output")
}

Tree: TypeAlias = "tuple[str, tuple[Tree, ...]]"
"""A span's kind and name, and its children, sorted."""


async def test_interleaved_turns_with_parallel_shields_are_one_exact_tree_each(tmp_path: Path) -> None:
    """Two turns in lockstep that end in reverse order have one trace and one root each, and the same exact tree."""
    lockstep = Lockstep()
    with recording() as spans:
        async with (
            running(
                tmp_path,
                profiles={"default": {"model": "lockstep", **GUARDED}},
                models=registry(lockstep=lockstep),
                replaced={"shield": shield_service(MeetingCatalogue(calls_together=4))},
            ) as mesh,
            mesh.client as client,
            asyncio.timeout(TIMEOUT),
        ):
            first = asyncio.create_task(client.chat("first").result())
            second = asyncio.create_task(client.chat("second").result())
            lockstep.may_end["second"].set()
            assert (await second).text == " one two three"
            assert not first.done()
            lockstep.may_end["first"].set()
            assert (await first).text == " one two three"
            await mesh.idle()
    turns = by_trace(spans.mesh())
    assert not spans.open
    assert [tree(spans_of_one) for spans_of_one in turns.values()] == [whole_turn(), whole_turn()]
    assert {one_turn_of(spans_of_one) for spans_of_one in turns.values()} == {
        first.result().started.turn_id,
        second.result().started.turn_id,
    }
    assert not failed(spans.mesh())


@pytest.mark.parametrize(("on_error", "reason"), [("open", "STOP"), ("closed", "CONTENT_FILTER")])
async def test_a_failing_shield_marks_its_own_span_and_no_other(tmp_path: Path, on_error: str, reason: str) -> None:
    """Of all spans of a turn only that of the shield that failed is an error, whether the failure blocks or not."""
    output = {"shields": [deny("nightfall", name="well"), deny("x", name="broken", on_error=on_error)]}
    with recording() as spans:
        async with (
            running(
                tmp_path,
                profiles={"default": {"output": output}},
                replaced={"shield": shield_service(BreakingCatalogue())},
            ) as mesh,
            mesh.client as client,
        ):
            result = await client.chat("hello there", timeout=TIMEOUT).result()
            await mesh.idle()
    assert result.finished.reason.name == reason
    (marked,) = failed(spans.mesh())
    assert (marked.name, attributes(marked)[Name.ERROR_TYPE]) == ("shield broken", "SHIELD_FAILED")
    assert not [span for span in spans.mesh() if span.events]


async def test_the_engine_tells_what_it_did(tmp_path: Path) -> None:
    """The engine's span counts tokens in attributes, not in events, and names the model and the end."""
    with recording() as spans:
        async with running(tmp_path) as mesh, mesh.client as client:
            result = await client.chat("one two three", timeout=TIMEOUT).result()
    (engine,) = named(spans.mesh(), "engine")
    said = attributes(engine)
    assert said[Name.MODEL] == "echo"
    assert said[Name.INPUT_TOKENS] == result.finished.usage.prompt_tokens > 0
    assert said[Name.OUTPUT_TOKENS] == result.finished.usage.completion_tokens > 0
    assert said[Name.FINISH_REASONS] == ("stop",)
    assert not engine.events


# Callers


@pytest.mark.parametrize("target", ["orchestrator", "trusting gateway"])
@pytest.mark.parametrize("kind", ["aio", "sync"])
async def test_the_trace_of_an_instrumented_caller_goes_on(tmp_path: Path, kind: str, target: str) -> None:
    """Behind a caller with OpenTelemetry's own gRPC interceptors the turn is a child of that caller's span."""
    with recording() as spans, caller() as theirs:
        async with running(tmp_path) as mesh, trusting_gateway(mesh) as gateway:
            await CALLERS[kind](gateway if target == "trusting gateway" else mesh.target("orchestrator"), theirs)
            await mesh.idle()
    (span,) = theirs.exporter.get_finished_spans()
    assert span.context
    entries = [each for each in spans.mesh() if each.parent and each.parent.span_id == span.context.span_id]
    assert [each.kind for each in entries] == [trace.SpanKind.SERVER]
    assert list(by_trace(spans.mesh())) == [span.context.trace_id]


@pytest.mark.parametrize("kind", ["aio", "sync", "header"])
async def test_the_edge_begins_a_trace_and_links_it_to_the_callers(tmp_path: Path, kind: str) -> None:
    """A stranger decides neither the id of a turn's trace nor its sampling; a link leads to the stranger's span."""
    with recording() as spans, caller() as theirs:
        async with running(tmp_path) as mesh:
            await CALLERS[kind](mesh.target("gateway"), theirs)
            await mesh.idle()
    (root,) = [span for span in spans.mesh() if span.parent is None]
    (link,) = root.links
    outside = {UNSAMPLED.trace_id} if kind == "header" else set(by_trace(theirs.exporter.get_finished_spans()))
    assert {link.context.trace_id} == outside
    assert link.context.trace_id not in by_trace(spans.mesh())
    assert tree(spans.mesh()) == whole_turn(guarded=False)


async def test_a_caller_without_tracing_starts_a_trace(tmp_path: Path) -> None:
    """Without any header the turn is a trace of its own, with no link."""
    with recording() as spans:
        async with running(tmp_path) as mesh:
            await plain_caller(mesh.target("gateway"), ())
            await mesh.idle()
    assert tree(spans.mesh()) == whole_turn(guarded=False)
    assert not [span for span in spans.mesh() if span.links]


# Sampling


async def test_what_the_edge_does_not_sample_no_hop_records(tmp_path: Path) -> None:
    """Unsampled at the edge is unsampled at every hop, under one trace id; metrics count all the same."""
    with recording(trace_ratio=0.0) as spans:
        async with running(tmp_path, profiles={"default": GUARDED}) as mesh, mesh.client as client:
            result = await client.chat("hello", timeout=TIMEOUT).result()
            await mesh.idle()
            hops = [call for call in mesh.served if call.service != "gateway"]
    assert not spans.mesh()
    assert {call.service for call in hops} == {"orchestrator", "shield", "inference"}
    assert {call.metadata["traceparent"].split("-")[1] for call in hops} == {result.started.trace_id}
    assert not any(int(call.metadata["traceparent"].split("-")[3], 16) & trace.TraceFlags.SAMPLED for call in hops)
    assert spans.counted("gen_ai.client.token.usage") == 3


async def test_a_trusting_edge_keeps_the_callers_decision(tmp_path: Path) -> None:
    """With trust_trace a caller that does not record its trace makes no hop record it."""
    with recording() as spans:
        async with running(tmp_path) as mesh, trusting_gateway(mesh) as gateway:
            events = await plain_caller(gateway, (("traceparent", header(UNSAMPLED)),))
            await mesh.idle()
    assert not [span for span in spans.mesh() if span.context and span.context.trace_id == UNSAMPLED.trace_id]
    assert events[0].started.trace_id == trace.format_trace_id(UNSAMPLED.trace_id)


# Calls that end early


@pytest.mark.parametrize("how", ["cancelled", "left", "forgotten"])
async def test_a_turn_that_is_given_up_loses_no_span(tmp_path: Path, how: str) -> None:
    """However a client goes away, every span of the turn ends, the calls as CANCELLED, and none as a failure."""
    with recording() as spans:
        async with running(tmp_path, profiles={"default": {"model_options": {"pace": 5}, **GUARDED}}) as mesh:
            await give_up(mesh.target("gateway"), how)
            await eventually(lambda: mesh.around["gateway"].running == 0)
            await mesh.idle()
            await eventually(lambda: not spans.open)
    chats = named(spans.mesh(), "shieldmesh.v1.ChatService/Chat")
    assert [span.kind.name for span in chats] == ["SERVER", "CLIENT", "SERVER"]
    assert [attributes(span)[Name.RPC_STATUS] for span in chats] == ["CANCELLED"] * 3
    assert not failed(spans.mesh())
    (engine,) = named(spans.mesh(), "engine")
    assert attributes(engine)[Name.CANCELLED] is True


async def test_a_cancelled_unary_call_stops_the_server_and_loses_no_span(tmp_path: Path) -> None:
    """Cancelling a unary call reaches the server, and both spans end as CANCELLED."""
    hanging = HangingShields()
    with recording() as spans:
        async with running(tmp_path, replaced={"shield": shields(hanging)}) as mesh:
            stub = ShieldServiceStub(channels.get(mesh.target("shield")))
            call = asyncio.create_task(calls.unary(stub.Inspect, shield_pb2.InspectRequest(), timeout=TIMEOUT))
            await eventually(lambda: hanging.inspecting == 1)
            call.cancel()
            await eventually(lambda: hanging.inspecting == 0)
            await mesh.idle()
            await eventually(lambda: not spans.open)
    assert [attributes(span)[Name.RPC_STATUS] for span in spans.ended] == ["CANCELLED"] * 2


# What a turn's tree is


def whole_turn(*, guarded: bool = True) -> Tree:
    """The tree of a turn, with N shields each way or none."""
    generate = hop("InferenceService/Generate", ("internal engine", ()), ("internal queue", ()))
    ways = [("Inspect", "input"), ("InspectStream", "output")] if guarded else []
    inspections = [
        hop(f"ShieldService/{method}", *((f"internal shield {way}-{number}", ()) for number in range(N)))
        for method, way in ways
    ]
    chat = "shieldmesh.v1.ChatService/Chat"
    inner = (f"server {chat}", tuple(sorted([generate, *inspections])))
    return (f"server {chat}", ((f"client {chat}", (inner,)),))


def hop(method: str, *children: Tree) -> Tree:
    """A call, seen from both sides."""
    return (f"client shieldmesh.v1.{method}", ((f"server shieldmesh.v1.{method}", tuple(sorted(children))),))


def tree(spans: Sequence[ReadableSpan]) -> Tree:
    """The tree of the spans; fails when it is not exactly one, or a span has no parent in it."""
    children: dict[int, list[ReadableSpan]] = defaultdict(list)
    for span in spans:
        children[span.parent.span_id if span.parent else 0].append(span)
    (root,) = children[0]
    grown = grow(root, children)
    assert size(grown) == len(spans), "a span's parent is not among the spans"
    return grown


def grow(span: ReadableSpan, children: dict[int, list[ReadableSpan]]) -> Tree:
    return (
        f"{span.kind.name.lower()} {span.name}",
        tuple(sorted(grow(child, children) for child in children[id_of(span)])),
    )


def size(grown: Tree) -> int:
    return 1 + sum(map(size, grown[1]))


def by_trace(spans: Sequence[ReadableSpan]) -> dict[int, list[ReadableSpan]]:
    traces: dict[int, list[ReadableSpan]] = defaultdict(list)
    for span in spans:
        traces[span.context.trace_id if span.context else 0].append(span)
    return traces


def one_turn_of(spans: Sequence[ReadableSpan]) -> str:
    """The turn that all calls of a trace say they belong to."""
    (turn,) = {str(attributes(span)[Name.TURN]) for span in spans if span.kind is trace.SpanKind.SERVER}
    return turn


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def named(spans: Sequence[ReadableSpan], name: str) -> list[ReadableSpan]:
    return [span for span in spans if span.name == name]


def failed(spans: Sequence[ReadableSpan]) -> list[ReadableSpan]:
    return [span for span in spans if span.status.status_code is trace.StatusCode.ERROR]


def id_of(span: ReadableSpan) -> int:
    return span.context.span_id if span.context else 0


# How it is recorded


class Recorded(SpanLedger):
    """Spans and metrics of the mesh, without those of this test's own client."""

    def __init__(self) -> None:
        super().__init__()
        self.reader = InMemoryMetricReader()

    def mesh(self) -> list[ReadableSpan]:
        """The spans that have ended, by start."""
        inside = [span for span in self.ended if span.parent is not None or span.kind is trace.SpanKind.SERVER]
        return sorted(inside, key=lambda span: span.start_time or 0)

    def counted(self, metric: str) -> int:
        """How many values a histogram holds."""
        data = self.reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        points = [
            point
            for scope in scopes
            for each in scope.metrics
            if each.name == metric
            for point in each.data.data_points
        ]
        return sum(getattr(point, "count", 0) for point in points)


@contextmanager
def recording(trace_ratio: float = 1.0) -> Generator[Recorded]:
    """Records what this process does inside the block, through the providers of production."""
    spans = Recorded()
    identity = ServerIdentity("mesh", "mesh-1")
    with (
        exporting.providing(identity, processors=[spans], readers=[spans.reader], trace_ratio=trace_ratio) as providers,
        telemetry.recording(providers.tracers, providers.meters),
    ):
        yield spans


@dataclass(frozen=True, slots=True)
class Theirs:
    """The tracing of a caller outside the mesh."""

    provider: TracerProvider
    exporter: InMemorySpanExporter


@contextmanager
def caller() -> Generator[Theirs]:
    provider, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    try:
        yield Theirs(provider, exporter)
    finally:
        provider.shutdown()


# What they export has no types.
INSTRUMENTATION: Final[Any] = importlib.import_module("opentelemetry.instrumentation.grpc")
GRPCEXT: Final[Any] = importlib.import_module("opentelemetry.instrumentation.grpc.grpcext")

UNSAMPLED: Final = trace.SpanContext(
    trace_id=0x0AF7651916CD43DD8448EB211C80319C, span_id=0xB7AD6B7169203331, is_remote=True
)


def header(context: trace.SpanContext) -> str:
    ids = f"{trace.format_trace_id(context.trace_id)}-{trace.format_span_id(context.span_id)}"
    return f"00-{ids}-{context.trace_flags:02x}"


def asking(text: str = "hello") -> chat_pb2.ChatRequest:
    part = message_pb2.ContentPart(text=text)
    return chat_pb2.ChatRequest(messages=[message_pb2.Message(role=message_pb2.ROLE_USER, parts=[part])])


async def aio_caller(target: str, theirs: Theirs) -> None:
    interceptors = INSTRUMENTATION.aio_client_interceptors(tracer_provider=theirs.provider)
    async with grpc.aio.insecure_channel(target, interceptors=interceptors) as channel:
        events = [event async for event in chat_pb2_grpc.ChatServiceStub(channel).Chat(asking(), timeout=TIMEOUT)]
    assert events[-1].HasField("finished")


async def sync_caller(target: str, theirs: Theirs) -> None:
    def talk() -> None:
        with grpc.insecure_channel(target) as plain:
            channel = GRPCEXT.intercept_channel(plain, INSTRUMENTATION.client_interceptor(theirs.provider))
            *_, last = chat_pb2_grpc.ChatServiceStub(channel).Chat(asking(), timeout=TIMEOUT)
            assert last.HasField("finished")

    await asyncio.to_thread(talk)


async def header_caller(target: str, _theirs: Theirs) -> None:
    await plain_caller(target, (("traceparent", header(UNSAMPLED)),))


async def plain_caller(target: str, metadata: tuple[tuple[str, str], ...]) -> list[chat_pb2.ChatEvent]:
    async with grpc.aio.insecure_channel(target) as channel:
        stub: Any = chat_pb2_grpc.ChatServiceStub(channel)
        return [event async for event in stub.Chat(asking(), timeout=TIMEOUT, metadata=metadata)]


CALLERS: Final[dict[str, Callable[[str, Theirs], Any]]] = {
    "aio": aio_caller,
    "sync": sync_caller,
    "header": header_caller,
}


async def give_up(target: str, how: str) -> None:
    """Reads the first text of a long turn and goes away."""
    if how == "left":
        async with shieldmesh.connect(target) as client:
            async for event in client.chat("one two three four " * 20, timeout=TIMEOUT):
                if isinstance(event, shieldmesh.Delta):
                    return
    async with grpc.aio.insecure_channel(target) as channel:
        stub: Any = chat_pb2_grpc.ChatServiceStub(channel)
        call = stub.Chat(asking("one two three four " * 20), timeout=TIMEOUT)
        while not (await call.read()).HasField("delta"):
            pass
        if how == "cancelled":
            call.cancel()
        del call


@asynccontextmanager
async def trusting_gateway(mesh: Mesh) -> AsyncGenerator[str]:
    """A second gateway, one with trust_trace; where it is."""
    around = MeshInterceptor(ServerIdentity("gateway", "gateway-2", TIMEOUT), edge(trust_trace=True))
    server, target = grpc.aio.server(interceptors=[around]), f"unix:{mesh.directory / 'trusting.sock'}"
    add_proxies(server, channels.get(mesh.target("orchestrator")))
    server.add_insecure_port(target)
    await server.start()
    try:
        yield target
    finally:
        await server.stop(None)
        await around.wait_idle()


# Parts that keep step, or break


class Lockstep:
    """An engine whose generations take each step together; each ends when it may."""

    def __init__(self) -> None:
        self.context_window = self.generated_tokens = 0
        self.steps = asyncio.Barrier(2)
        self.may_end = {"first": asyncio.Event(), "second": asyncio.Event()}

    def generate(self, request: GenerationRequest) -> "InStep":
        return InStep(self, request.messages[-1].text)

    async def close(self) -> None: ...


class InStep:
    def __init__(self, engine: Lockstep, name: str) -> None:
        self._engine, self._name = engine, name

    @property
    def usage(self) -> Usage:
        return Usage(prompt=1, completion=3)

    async def batches(self) -> AsyncGenerator[Sequence[Step]]:
        for piece in (" one", " two", " three"):
            await self._engine.steps.wait()
            yield [Output(text=piece, token_count=1)]
        await self._engine.may_end[self._name].wait()
        yield [Finish(FinishReason.STOP)]

    def stop(self) -> None: ...


class MeetingCatalogue(Catalogue):
    """Gives nobody shields before so many calls want some: then they all inspect at the same time."""

    def __init__(self, calls_together: int) -> None:
        super().__init__(capacity=64, default_timeout=5.0)
        self._together = asyncio.Barrier(calls_together)

    async def shields(self, specs: Sequence[policy_pb2.ShieldSpec], field: str = "shields") -> tuple[Shield, ...]:
        await self._together.wait()
        return await super().shields(specs, field)


class BreakingCatalogue(Catalogue):
    """A shield called "broken" is."""

    def __init__(self) -> None:
        super().__init__(capacity=64, default_timeout=5.0)

    async def shields(self, specs: Sequence[policy_pb2.ShieldSpec], field: str = "shields") -> tuple[Shield, ...]:
        built = await super().shields(specs, field)
        return tuple(Broken(shield.rules) if shield.rules.name == "broken" else shield for shield in built)


@dataclass(frozen=True, slots=True)
class Broken:
    rules: Rules
    kind: Literal["match", "window", "whole"] = "match"

    def lane(self) -> "Broken":
        return self

    def feed(self, text: str, *, end: bool) -> Progress:
        raise ValueError(f"cannot look at {text!r}, end={end}")


def shield_service(catalogue: Catalogue) -> OpenService:
    return shields(ShieldServicer(catalogue, max_characters=1_000))
