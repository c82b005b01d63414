"""Judging what hops say."""

from dataclasses import replace

from shieldmesh.diagnostics.diagnosis import Check, Evidence, Held, diagnose
from shieldmesh.errors import duration
from shieldmesh.v1.diagnostics_pb2 import (
    PROBE_END_REASON_CANCELLED,
    PROBE_END_REASON_DEADLINE,
    PROBE_END_REASON_UNSPECIFIED,
    ProbeEvent,
    ProbeMetadata,
)


def event(service: str, caller: str = "", remaining: float = 5.0, instance: str = "") -> ProbeEvent:
    identity = ProbeMetadata(session_id="s", request_id="r", trace_id="t")
    return ProbeEvent(
        service=service,
        instance=instance or f"{service}-1",
        caller=caller,
        session_id="s",
        request_id="r",
        trace_id="t",
        remaining=duration(remaining),
        metadata=identity,
    )


def sound() -> Evidence:
    """Two hops of a mesh that is well."""
    seen = [event("gateway"), event("shield", "gateway", 4.9)]
    instances = [each.instance for each in seen]
    return Evidence(
        "s",
        seen,
        cancelled=Held(seen, dict.fromkeys(instances, PROBE_END_REASON_CANCELLED)),
        expired=Held(seen, dict.fromkeys(instances, PROBE_END_REASON_DEADLINE)),
    )


def messages(evidence: Evidence) -> list[str]:
    return [fault.message for fault in diagnose(evidence).faults]


def test_sound_evidence_is_no_fault() -> None:
    """What is right everywhere is passed everywhere."""
    diagnosis = diagnose(sound())
    assert diagnosis.faults == []
    assert all(all(hop.passed.values()) for hop in diagnosis.hops)


def test_hops_stand_below_their_callers() -> None:
    """However the events of services that work side by side are mixed."""
    seen = [event("a"), event("b", "a"), event("c", "a"), event("b1", "b"), event("c1", "c"), event("b2", "b")]
    diagnosis = diagnose(Evidence("s", seen))
    assert [(hop.service, hop.depth) for hop in diagnosis.hops] == [
        ("a", 0),
        ("b", 1),
        ("b1", 2),
        ("b2", 2),
        ("c", 1),
        ("c1", 2),
    ]


def test_an_entry_that_knows_another_session() -> None:
    """The first hop is held to what the client sent."""
    assert messages(replace(sound(), session_id="other")) == ["gateway has another session"]


def test_a_hop_that_works_with_another_trace_than_it_was_sent() -> None:
    """It was told and made its own: its fault."""
    evidence = sound()
    evidence.seen[1].trace_id = "u"
    assert messages(evidence) == ["shield is sent the trace, but works with another"]


def test_a_caller_that_sends_another_trace() -> None:
    """The hop takes what it is sent: its caller's fault."""
    evidence = sound()
    evidence.seen[1].trace_id = evidence.seen[1].metadata.trace_id = "u"
    assert messages(evidence) == ["gateway does not pass the trace on to shield"]


def test_only_the_first_of_a_kind_is_named() -> None:
    """What is lost at one hop is lost at all behind it; that is one fault."""
    evidence = sound()
    for each in evidence.seen:
        each.trace_id = ""
    assert messages(evidence) == ["gateway has no trace"]
    assert [hop.passed[Check.TRACE] for hop in diagnose(evidence).hops] == [False, False]


def test_a_hop_that_outlives_its_end() -> None:
    """Work that goes on after a cancellation or a deadline is told apart from work that ends late or otherwise."""
    evidence = sound()
    both = ("gateway-1", "shield-1")
    still = Held(evidence.seen, dict.fromkeys(both, PROBE_END_REASON_UNSPECIFIED))
    late = Held(evidence.seen, dict.fromkeys(both, PROBE_END_REASON_DEADLINE))
    told = Held(evidence.seen, {"gateway-1": PROBE_END_REASON_DEADLINE, "shield-1": PROBE_END_REASON_CANCELLED})
    assert messages(replace(evidence, cancelled=still)) == ["gateway works on after a cancellation"]
    assert messages(replace(evidence, cancelled=late)) == ["gateway went on until its deadline after a cancellation"]
    assert messages(replace(evidence, expired=still)) == ["gateway works on after its deadline"]
    assert messages(replace(evidence, expired=told)) == [
        "shield was cancelled by its caller before it knew that its deadline passed"
    ]


def test_another_replica_may_be_probed() -> None:
    """A held probe may come to another instance than the first: then that one's end counts."""
    evidence = sound()
    other = [event("gateway"), event("shield", "gateway", 4.9, instance="shield-2")]
    reasons = {"gateway-1": PROBE_END_REASON_CANCELLED, "shield-2": PROBE_END_REASON_CANCELLED}
    assert diagnose(replace(evidence, cancelled=Held(other, reasons))).faults == []


def test_what_is_not_known_is_neither_well_nor_wrong() -> None:
    """A hop whose end nobody could ask for is no fault, and does not pass either."""
    evidence = replace(sound(), cancelled=Held(sound().seen, {"gateway-1": PROBE_END_REASON_CANCELLED}))
    diagnosis = diagnose(evidence)
    assert diagnosis.faults == []
    assert [hop.passed[Check.CANCELLATION] for hop in diagnosis.hops] == [True, None]
