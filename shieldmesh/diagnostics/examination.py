"""A running mesh, examined from outside: probes are sent through it, held, cancelled and left to expire."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

from shieldmesh import calls, context
from shieldmesh.context import RequestContext, new_id
from shieldmesh.diagnostics.diagnosis import Diagnosis, Evidence, Held, Reason, diagnose
from shieldmesh.diagnostics.reach import Stub, explained, reach
from shieldmesh.errors import MeshError
from shieldmesh.v1.diagnostics_pb2 import (
    PROBE_END_REASON_UNSPECIFIED,
    GetProbeRequest,
    ProbeEvent,
    ProbeRequest,
)

PROBE_SECONDS: Final = 5.0
"""The deadline of a probe; twice what a silent service is waited for at least, see `downstream.PATIENCE`."""
EXPIRING_SECONDS: Final = 1.0
"""The deadline of the probe that is meant to run into it."""
PATIENCE: Final = 2.0
"""Seconds after the end of a held probe in which every hop must know of it."""

_PAUSE: Final = 0.05


async def examine(target: str) -> Diagnosis:
    """What reaches which hop of the mesh at `target`; takes a few seconds.

    Raises:
        MeshError: nobody answers there, or answers no such questions; the message says what to do.
    """
    stub = reach(target)
    session = new_id()
    with explained(target), context.use(RequestContext(session_id=session)):
        seen = await _probe(stub, ProbeRequest(probe_id=new_id()), PROBE_SECONDS)
        cancelled = await _hold(stub, PROBE_SECONDS, cancel_after=len(seen))
        expired = await _hold(stub, EXPIRING_SECONDS)
    return diagnose(Evidence(session, seen, cancelled, expired))


async def _hold(stub: "Stub", deadline: float, *, cancel_after: int | None = None) -> Held:
    """A probe that is held until its deadline, or until it is cancelled after that many events."""
    request = ProbeRequest(probe_id=new_id(), hold=True)
    events = await _probe(stub, request, deadline, enough=cancel_after)
    return Held(events, await _endings(stub, request.probe_id, events))


async def _probe(
    stub: "Stub", request: ProbeRequest, deadline: float, *, enough: int | None = None
) -> list[ProbeEvent]:
    """The events of a probe until it ends or there are enough of them, whatever comes after the first.

    It is cancelled, too, when not enough have come while there is still time.
    """
    events: list[ProbeEvent] = []
    patience = None if enough is None else deadline - PATIENCE
    with contextlib.suppress(TimeoutError):
        try:
            async with asyncio.timeout(patience), calls.stream(stub.Probe, request, timeout=deadline) as stream:
                async for event in stream:
                    events.append(event)
                    if len(events) == enough:
                        break
        except MeshError:
            # A held probe is meant to end so; and what breaks off behind the first hop shows in what is missing.
            if not events:
                raise
    return events


async def _endings(stub: "Stub", probe_id: str, events: Sequence[ProbeEvent]) -> dict[str, Reason]:
    """How the probe ended, by instance, asked for until all know or time is up.

    Each answer adds to those before: with several replicas behind one address it comes from now one, now another.
    """
    wanted = {event.instance for event in events if not event.error}
    endings: dict[str, Reason] = {}
    loop = asyncio.get_running_loop()
    until = loop.time() + PATIENCE
    while loop.time() < until:
        response = await calls.unary(stub.GetProbe, GetProbeRequest(probe_id=probe_id), timeout=PROBE_SECONDS)
        endings |= {ending.instance: ending.reason for ending in response.endings}
        if all(endings.get(instance, PROBE_END_REASON_UNSPECIFIED) for instance in wanted):
            break
        await asyncio.sleep(_PAUSE)
    return endings
