"""A mesh with one broken part, examined over real sockets: what is lost is found, and the part is named."""

import pytest

from shieldmesh.diagnostics.diagnosis import Check, Diagnosis
from shieldmesh.diagnostics.examination import examine
from shieldmesh.errors import MeshError, UnavailableError
from shieldmesh.interceptors import INNER, deadline, session, telemetry
from shieldmesh.interceptors.call import ServerInterceptor
from tests.shieldmesh.diagnostics.mesh import Careless, Deaf, Faults, Generous, serving


async def examined(faults: Faults | None = None, *, traced: bool = True) -> Diagnosis:
    async with serving(faults, traced=traced) as targets:
        return await examine(targets["gateway"])


def without(interceptor: ServerInterceptor) -> Faults:
    """An orchestrator that leaves one interceptor out."""
    return Faults(interceptors={"orchestrator": [each for each in INNER if each is not interceptor]})


def failed(diagnosis: Diagnosis, check: Check) -> list[str]:
    """The services that something did not reach."""
    return sorted(hop.service for hop in diagnosis.hops if hop.passed[check] is False)


def blamed(diagnosis: Diagnosis) -> dict[Check, str]:
    return {fault.check: fault.culprit for fault in diagnosis.faults}


async def test_a_sound_mesh_is_well() -> None:
    """All hops pass all checks, and the time left shrinks from hop to hop."""
    diagnosis = await examined()
    assert diagnosis.faults == []
    assert [(hop.service, hop.depth) for hop in diagnosis.hops][:2] == [("gateway", 0), ("orchestrator", 1)]
    assert sorted((hop.service, hop.depth) for hop in diagnosis.hops[2:]) == [("inference", 2), ("shield", 2)]
    assert all(hop.passed == dict.fromkeys(Check, True) for hop in diagnosis.hops)


@pytest.mark.parametrize(
    ("interceptor", "check", "message"),
    [
        (session.serve, Check.SESSION, "orchestrator is sent the session, but works with none"),
        (session.serve, Check.TURN, "orchestrator is sent the turn, but works with none"),
        (telemetry.serve, Check.TRACE, "orchestrator is sent the trace, but works with none"),
    ],
)
async def test_a_hop_that_does_not_take_something_on(
    interceptor: ServerInterceptor, check: Check, message: str
) -> None:
    """What arrives at a hop and is lost in it is that hop's fault, and is missing behind it, too."""
    diagnosis = await examined(without(interceptor))
    assert message in [fault.message for fault in diagnosis.faults]
    assert set(blamed(diagnosis).values()) == {"orchestrator"}
    assert failed(diagnosis, check) == ["inference", "orchestrator", "shield"]
    assert all(hop.passed[Check.CANCELLATION] for hop in diagnosis.hops)


async def test_a_hop_that_passes_nothing_on() -> None:
    """What a hop has and does not send is its fault, not that of those who miss it."""
    diagnosis = await examined(Faults(downstream={"orchestrator": Careless}))
    lost = (Check.SESSION, Check.TURN, Check.TRACE, Check.DEADLINE)
    assert blamed(diagnosis) == dict.fromkeys(lost, "orchestrator")
    assert all(failed(diagnosis, check) == ["inference", "shield"] for check in lost)
    assert "does not pass the session on to" in diagnosis.faults[0].message


async def test_a_hop_without_deadlines() -> None:
    """A hop that knows no deadline gives none, and is named for it."""
    diagnosis = await examined(without(deadline.serve))
    assert blamed(diagnosis) == {Check.DEADLINE: "orchestrator"}
    assert {"inference", "shield"} <= set(failed(diagnosis, Check.DEADLINE))


async def test_a_hop_that_gives_more_time_than_it_has() -> None:
    """A deadline that grows on the way is as bad as none."""
    diagnosis = await examined(Faults(downstream={"gateway": Generous}))
    assert blamed(diagnosis) == {Check.DEADLINE: "gateway"}
    assert "gateway gives orchestrator" in diagnosis.faults[0].message


async def test_a_hop_that_is_deaf_to_cancellation() -> None:
    """Those behind it work on; it is named, and not they."""
    diagnosis = await examined(Faults(downstream={"orchestrator": Deaf}))
    assert blamed(diagnosis) == {Check.CANCELLATION: "orchestrator"}
    assert failed(diagnosis, Check.CANCELLATION) == ["inference", "shield"]
    assert "orchestrator does not pass a cancellation on to" in diagnosis.faults[0].message


async def test_a_hop_that_is_not_there() -> None:
    """It is named, what it does is not guessed, and the others are checked as ever."""
    diagnosis = await examined(Faults(missing=["shield"]))
    assert blamed(diagnosis) == {Check.CALL: "shield"}
    assert "shield does not answer orchestrator" in diagnosis.faults[0].message
    passed = {hop.service: hop.passed for hop in diagnosis.hops}
    assert passed["shield"] == {check: False if check is Check.CALL else None for check in Check}
    assert all(passed["inference"].values())


async def test_a_hop_without_diagnostics() -> None:
    """A service of another version is told apart from one that is down."""
    diagnosis = await examined(Faults(silent=["inference"]))
    assert [fault.message for fault in diagnosis.faults] == [
        "inference answers, but serves no diagnostics: what it does cannot be told"
    ]


async def test_a_mesh_without_tracing() -> None:
    """When nothing is traced, the entry is named."""
    diagnosis = await examined(traced=False)
    assert blamed(diagnosis) == {Check.TRACE: "gateway"}
    assert len(failed(diagnosis, Check.TRACE)) == 4


async def test_a_mesh_that_is_not_there() -> None:
    """Nobody at the address is a sentence that says what to start."""
    with pytest.raises(UnavailableError, match="start a mesh with `shieldmesh up`"):
        await examine("unix:/nowhere/mesh.sock")


async def test_a_mesh_that_does_not_want_to_be_asked() -> None:
    """A gateway without diagnostics is a sentence that says how to turn them on."""
    async with serving(Faults(silent=["gateway"])) as targets:
        with pytest.raises(MeshError, match="SHIELDMESH_GATEWAY_DIAGNOSTICS=true") as error:
            await examine(targets["gateway"])
    assert error.value.reason == "DIAGNOSTICS_OFF"
