"""What is wrong with a mesh, judged by what its hops say that reached them. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeAlias

from shieldmesh import errors
from shieldmesh.v1 import diagnostics_pb2
from shieldmesh.v1.diagnostics_pb2 import (
    PROBE_END_REASON_CANCELLED,
    PROBE_END_REASON_DEADLINE,
    PROBE_END_REASON_UNSPECIFIED,
    ProbeEvent,
)

Reason: TypeAlias = "diagnostics_pb2.ProbeEndReason.ValueType"  # exists for type checkers alone


class Check(StrEnum):
    """What must reach every hop."""

    CALL = "call"
    SESSION = "session"
    TURN = "turn"
    TRACE = "trace"
    DEADLINE = "deadline"
    CANCELLATION = "cancel"


@dataclass(frozen=True, slots=True)
class Held:
    """A probe that was held until it was ended."""

    events: Sequence[ProbeEvent] = ()
    endings: Mapping[str, "Reason"] = field(default_factory=dict[str, "Reason"])
    """How it ended, by instance."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was asked and what came back."""

    session_id: str
    """What the probes were sent with."""
    seen: Sequence[ProbeEvent]
    """The events of a probe that was not held; a hop's before those of the services that it calls."""
    cancelled: Held = field(default_factory=Held)
    """A held probe that its client cancelled."""
    expired: Held = field(default_factory=Held)
    """A held probe that ran into its deadline."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that a hop loses."""

    check: Check
    culprit: str
    """The service that loses it."""
    message: str


@dataclass(frozen=True, slots=True)
class Examined:
    """One hop, in the order of the calls.

    Attributes:
        passed: By check; None: it cannot be told.
    """

    service: str
    instance: str
    depth: int
    remaining: float | None
    """Seconds that its caller gave it."""
    passed: Mapping[Check, bool | None]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found out."""

    hops: Sequence[Examined]
    faults: Sequence[Fault]
    """The first of each check along the way; none: the mesh is well."""


def diagnose(evidence: Evidence) -> Diagnosis:
    """What reached which hop, and who dropped what first."""
    hops = _in_order(evidence.seen)
    first: dict[Check, Fault] = {}
    examined: list[Examined] = []
    for hop in hops:
        passed: dict[Check, bool | None] = {}
        for check, judge in _JUDGES.items():
            verdict = _UNKNOWN if hop.event.error and check is not Check.CALL else judge(hop, hops[0], evidence)
            passed[check] = None if verdict is _UNKNOWN else verdict is None
            if verdict is not None and verdict is not _UNKNOWN:
                first.setdefault(check, Fault(check, verdict.culprit, verdict.message))
        remaining = errors.seconds(hop.event.remaining) if hop.event.HasField("remaining") else None
        examined.append(Examined(hop.service, hop.event.instance, hop.depth, remaining, passed))
    return Diagnosis(examined, [first[check] for check in Check if check in first])


@dataclass(frozen=True, slots=True)
class _Hop:
    event: ProbeEvent
    caller: "_Hop | None"
    depth: int

    @property
    def service(self) -> str:
        return self.event.service


@dataclass(frozen=True, slots=True)
class _Blame:
    culprit: str
    message: str


_UNKNOWN: Final = _Blame("", "")
_Judge: TypeAlias = Callable[[_Hop, _Hop, Evidence], _Blame | None]
"""Of a hop, the entry and all the evidence: who is to blame, None when all is well."""


def _in_order(events: Iterable[ProbeEvent]) -> list[_Hop]:
    """The hops depth first: what is called stands below its caller, whatever came between."""
    hops: list[_Hop] = []
    for event in events:
        caller = next((hop for hop in reversed(hops) if event.caller and hop.service == event.caller), None)
        hops.append(_Hop(event, caller, 0 if caller is None else caller.depth + 1))

    def below(caller: _Hop | None) -> Iterable[_Hop]:
        for hop in hops:
            if hop.caller is caller:
                yield hop
                yield from below(hop)

    return list(below(None))


def _call(hop: _Hop, _entry: _Hop, _evidence: Evidence) -> _Blame | None:
    if not hop.event.error:
        return None
    if hop.event.error == "UNIMPLEMENTED":
        return _Blame(hop.service, f"{hop.service} answers, but serves no diagnostics: what it does cannot be told")
    return _Blame(hop.service, f"{hop.service} does not answer {hop.event.caller} ({hop.event.error})")


def _session(hop: _Hop, _entry: _Hop, evidence: Evidence) -> _Blame | None:
    event = hop.event
    return _identity(hop, "session", evidence.session_id, event.session_id, event.metadata.session_id)


def _turn(hop: _Hop, entry: _Hop, _evidence: Evidence) -> _Blame | None:
    event = hop.event
    return _identity(hop, "turn", entry.event.request_id, event.request_id, event.metadata.request_id)


def _trace(hop: _Hop, entry: _Hop, _evidence: Evidence) -> _Blame | None:
    event = hop.event
    return _identity(hop, "trace", entry.event.trace_id, event.trace_id, event.metadata.trace_id)


def _identity(hop: _Hop, what: str, expected: str, actual: str, arrived: str) -> _Blame | None:
    """Cases: 1. it is right, 2. the entry has none or another, 3. it arrived and was lost here, 4. it was not sent."""
    if actual and actual == expected:
        return None
    if hop.caller is None:
        return _Blame(hop.service, f"{hop.service} has {'another' if actual else 'no'} {what}")
    if arrived and arrived == expected:
        return _Blame(
            hop.service, f"{hop.service} is sent the {what}, but works with {'another' if actual else 'none'}"
        )
    culprit = hop.caller.service
    return _Blame(culprit, f"{culprit} does not pass the {what} on to {hop.service}")


def _deadline(hop: _Hop, _entry: _Hop, evidence: Evidence) -> _Blame | None:
    """It must arrive, be shorter than its caller's, and end the work."""
    caller = hop.caller
    culprit = hop.service if caller is None else caller.service
    if not hop.event.HasField("remaining"):
        return _Blame(culprit, f"{culprit} {'gets' if caller is None else f'gives {hop.service}'} no deadline")
    if caller is not None and caller.event.HasField("remaining"):
        ours, theirs = (errors.seconds(each.event.remaining) for each in (hop, caller))
        if ours >= theirs:
            message = f"{culprit} gives {hop.service} {ours:.2f} s, but has only {theirs:.2f} s itself"
            return _Blame(culprit, message)
    reason = _ending(hop, evidence.expired)
    if reason == PROBE_END_REASON_DEADLINE:
        return None
    if reason == PROBE_END_REASON_CANCELLED:
        return _Blame(hop.service, f"{hop.service} was cancelled by its caller before it knew that its deadline passed")
    return _UNKNOWN if reason is None else _Blame(hop.service, f"{hop.service} works on after its deadline")


def _cancellation(hop: _Hop, _entry: _Hop, evidence: Evidence) -> _Blame | None:
    reason = _ending(hop, evidence.cancelled)
    if reason == PROBE_END_REASON_CANCELLED:
        return None
    if reason is None:
        return _UNKNOWN
    told = hop.caller is not None and _ending(hop.caller, evidence.cancelled) == PROBE_END_REASON_CANCELLED
    if hop.caller is not None and told:
        culprit = hop.caller.service
        return _Blame(culprit, f"{culprit} does not pass a cancellation on to {hop.service}")
    how = "works on" if reason == PROBE_END_REASON_UNSPECIFIED else "went on until its deadline"
    return _Blame(hop.service, f"{hop.service} {how} after a cancellation")


def _ending(hop: _Hop, held: Held) -> "Reason | None":
    """How a held probe ended at this hop, or at the instance of it that the probe came to."""
    for event in held.events:
        if (event.service, event.caller) == (hop.service, hop.event.caller) and not event.error:
            return held.endings.get(event.instance)
    return None


_JUDGES: Final[Mapping[Check, _Judge]] = {
    Check.CALL: _call,
    Check.SESSION: _session,
    Check.TURN: _turn,
    Check.TRACE: _trace,
    Check.DEADLINE: _deadline,
    Check.CANCELLATION: _cancellation,
}
