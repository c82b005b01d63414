"""DiagnosticsService over real sockets."""

import asyncio

import pytest
from opentelemetry.trace import SpanKind

from shieldmesh import calls
from shieldmesh.diagnostics.memory import SpanMemory
from shieldmesh.errors import InvalidArgumentError, MeshError, NotFoundError
from shieldmesh.v1.diagnostics_pb2 import (
    PROBE_END_REASON_CANCELLED,
    GetProbeRequest,
    GetTraceRequest,
    GetTraceResponse,
    ProbeEvent,
    ProbeRequest,
)
from tests.shieldmesh.diagnostics.mesh import TIMEOUT, Faults, serving, stub
from tests.shieldmesh.diagnostics.spans import Spans


def remembered(turn: str) -> dict[str, SpanMemory]:
    """The memories of three services that a turn went through; the shield failed."""
    gateway, orchestrator, shield = (Spans(name) for name in ("gateway", "orchestrator", "shield"))
    entry = gateway.span("Chat", turn=turn, kind=SpanKind.SERVER, end=False)
    middle = orchestrator.span("Chat", turn=turn, kind=SpanKind.SERVER, parent=entry, end=False)
    attributes = {"shieldmesh.findings": 2, "flags": (1, 2), "ok": True}
    shield.span("Inspect", turn=turn, parent=middle, failure="SHIELD_TIMEOUT", attributes=attributes)
    middle.end()
    entry.end()
    return {"gateway": gateway.memory, "orchestrator": orchestrator.memory, "shield": shield.memory}


async def trace_of(turn: str, target: str) -> GetTraceResponse:
    return await calls.unary(stub(target).GetTrace, GetTraceRequest(turn_id=turn), timeout=TIMEOUT)


async def probe(target: str, request: ProbeRequest) -> list[ProbeEvent]:
    async with calls.stream(stub(target).Probe, request, timeout=TIMEOUT) as events:
        return [event async for event in events]


async def test_a_trace_is_what_all_services_remember() -> None:
    """The spans of the service that is asked and of those behind it, by start time, with all that they know."""
    async with serving(memories=remembered("t-1")) as targets:
        found = await trace_of("t-1", targets["gateway"])
        behind = await trace_of("t-1", targets["shield"])
    assert [(span.service, span.name, span.kind) for span in found.spans] == [
        ("gateway", "Chat", "server"),
        ("orchestrator", "Chat", "server"),
        ("shield", "Inspect", "internal"),
    ]
    entry, middle, inspection = found.spans
    assert entry.parent_span_id == ""
    assert (middle.parent_span_id, inspection.parent_span_id) == (entry.span_id, middle.span_id)
    assert len({span.trace_id for span in found.spans}) == 1
    assert inspection.failed
    assert not middle.failed
    assert inspection.instance == "shield-1"
    assert dict(inspection.attributes) == {
        "shieldmesh.turn.id": "t-1",
        "shieldmesh.findings": "2",
        "flags": "1, 2",
        "ok": "true",
        "error.type": "SHIELD_TIMEOUT",
    }
    assert entry.duration.ToNanoseconds() >= inspection.duration.ToNanoseconds() >= 0
    assert list(behind.spans) == [inspection]


async def test_a_service_that_cannot_be_reached_is_left_out() -> None:
    """What the others remember is told all the same."""
    async with serving(Faults(missing=["shield", "inference"]), remembered("t-1")) as targets:
        found = await trace_of("t-1", targets["gateway"])
    assert [span.service for span in found.spans] == ["gateway", "orchestrator"]


async def test_a_turn_that_nobody_remembers() -> None:
    """NOT_FOUND with a stable reason and what can be the cause."""
    async with serving(memories=remembered("t-1")) as targets:
        with pytest.raises(NotFoundError, match="nobody remembers") as error:
            await trace_of("t-2", targets["gateway"])
    assert error.value.reason == "TURN_NOT_FOUND"
    assert [hop.service for hop in error.value.hops] == ["gateway"]


async def test_an_id_is_an_id() -> None:
    """Anything else is refused, for each method, with the field's name."""
    async with serving() as targets:
        service = stub(targets["gateway"])
        for call, field in (
            (calls.unary(service.GetTrace, GetTraceRequest(turn_id="no id"), timeout=TIMEOUT), "turn_id"),
            (calls.unary(service.GetProbe, GetProbeRequest(), timeout=TIMEOUT), "probe_id"),
            (probe(targets["gateway"], ProbeRequest(probe_id="x" * 129)), "probe_id"),
        ):
            with pytest.raises(InvalidArgumentError) as error:
                await call
            assert error.value.field == field


async def test_a_probe_tells_of_each_hop_after_its_caller() -> None:
    """Each hop says who called it, and what the border minted is the same everywhere."""
    async with serving() as targets:
        events = await probe(targets["gateway"], ProbeRequest(probe_id="p-1"))
    assert [(event.service, event.caller) for event in events[:2]] == [("gateway", ""), ("orchestrator", "gateway")]
    assert {(event.service, event.caller) for event in events[2:]} == {
        ("shield", "orchestrator"),
        ("inference", "orchestrator"),
    }
    assert len({(event.session_id, event.request_id, event.trace_id) for event in events}) == 1
    assert all(event.session_id and event.request_id and event.trace_id for event in events)
    assert events[0].metadata.trace_id != events[0].trace_id
    assert all(event.metadata.trace_id == event.trace_id for event in events[1:])


async def test_a_held_probe_ends_when_it_is_cancelled() -> None:
    """Every hop remembers the cancellation; a probe that was not held, or never was, is remembered by none."""
    async with serving() as targets:
        service = stub(targets["gateway"])
        async with calls.stream(service.Probe, ProbeRequest(probe_id="p-1", hold=True), timeout=TIMEOUT) as events:
            for _ in range(4):
                assert isinstance(await events.read(), ProbeEvent)
            running = await calls.unary(service.GetProbe, GetProbeRequest(probe_id="p-1"), timeout=TIMEOUT)
            assert [ending.reason for ending in running.endings] == [0] * 4
        async with asyncio.timeout(TIMEOUT):
            reasons: list[int] = []
            while reasons != [PROBE_END_REASON_CANCELLED] * 4:
                ended = await calls.unary(service.GetProbe, GetProbeRequest(probe_id="p-1"), timeout=TIMEOUT)
                reasons = [ending.reason for ending in ended.endings]
        await probe(targets["gateway"], ProbeRequest(probe_id="p-2"))
        for unknown in ("p-2", "p-3"):
            known = await calls.unary(service.GetProbe, GetProbeRequest(probe_id=unknown), timeout=TIMEOUT)
            assert not known.endings


async def test_asking_leaves_no_spans() -> None:
    """Diagnostic calls are traced, but not remembered as turns, at no hop."""
    memory = SpanMemory()
    async with serving(memories={"gateway": memory}) as targets:
        events = await probe(targets["gateway"], ProbeRequest(probe_id="p-1"))
        with pytest.raises(MeshError):
            await trace_of("t-1", targets["gateway"])
    assert events[0].trace_id
    assert memory.recall(events[0].request_id).spans == ()
    assert not memory.turns
