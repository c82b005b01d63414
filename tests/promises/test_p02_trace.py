"""P2: one turn is one trace with one root and exact parents, over every service and every parallel shield."""

import asyncio
from pathlib import Path
from typing import Any, Final

import pytest
from opentelemetry import trace

from shieldmesh import calls, channels
from shieldmesh.telemetry import Name
from shieldmesh.v1 import shield_pb2
from shieldmesh.v1.shield_pb2_grpc import ShieldServiceStub

from .fakes import HangingShields, registry, shields
from .lockstep import BreakingCatalogue, Lockstep, MeetingCatalogue, shield_service
from .mesh import TIMEOUT, deny, eventually, running
from .traces import N, attributes, by_trace, failed, named, one_turn_of, recording, tree, whole_turn
from .tracing_callers import CALLERS, UNSAMPLED, caller, give_up, header, plain_caller, trusting_gateway

GUARDED: Final[dict[str, Any]] = {
    way: {"shields": [deny("nightfall", name=f"{way}-{number}") for number in range(N)]} for way in ("input", "output")
}


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
