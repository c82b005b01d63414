"""Which systems are measured, in which scenarios."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from . import hop
from .peers import envoy, litellm, nemo, smg
from .scenarios import SWEEP
from .system import System
from .testbed import Bed, running

OURS = "mesh"
OURS_HTTP = "mesh-http"
_GUARDED = "match shields of the default profile (secrets, pii) on both ways"


@dataclass(frozen=True, slots=True)
class Job:
    """A system that is started anew for each round, and what happens to it then."""

    system: System
    scenarios: Sequence[str]
    again: Sequence[str] = ()
    """What happens to it in a second round, behind the first one of all systems."""

    @property
    def rounds(self) -> Sequence[Sequence[str]]:
        """What happens to it in each round."""
        return (self.scenarios, self.again) if self.again else (self.scenarios,)


def full() -> Sequence[Job]:
    """Everything, in less than 15 minutes on two idle cores. What others are compared with is measured twice."""
    plain, guarded = litellm.systems()
    http_floor, grpc_floor = envoy.systems()
    # Quiet ones first: some systems are still busy with a full load when nobody waits for it any more.
    behind = ("latency", "idle", "steady", "paced", "saturated")
    # What cannot follow `paced` shows there what it can deliver at most.
    slow = ("latency", "steady", "paced")
    compared = ("steady", "paced")
    ours = ("latency", "idle", "steady", "short", "paced", "long", "saturated")
    return (
        Job(_mesh(), ours, again=("latency", "steady", "paced", "saturated")),
        *(Job(system, ("steady",)) for system in _variants()),
        Job(_one_core(), ("steady", "paced", "saturated")),
        Job(hop.system(), slow, again=compared),
        Job(grpc_floor, slow),
        Job(_over_http(), behind, again=compared),
        Job(_over_http(guarded=False), compared),
        Job(plain, ("latency", "idle", "steady", "paced")),
        Job(guarded, ("latency", "paced")),
        Job(smg.system(), behind),
        Job(nemo.system(), slow),
        Job(http_floor, behind),
        Job(_mesh(), tuple(scenario.name for scenario in SWEEP)),
        Job(_mesh(), ("idle-2000",)),
        Job(_mesh(), ("real",)),
    )


def quick() -> Sequence[Job]:
    """The most telling part, in less than 2 minutes."""
    plain, _ = litellm.systems()
    return (
        Job(_mesh(), ("latency", "steady", "paced")),
        *(Job(system, ("steady",)) for system in (_over_http(), plain, smg.system(), hop.system())),
    )


def _mesh() -> System:
    settings = f"Four processes, scripted engine included; {_GUARDED}; every turn traced, SQLite log."
    return System(OURS, "Shieldmesh, shields on", settings, partial(running, Bed()))


def _over_http(*, guarded: bool = True) -> System:
    what = "shields on" if guarded else "no shields"
    settings = (
        f"Four processes, its `openai` backend, asked by gRPC; {_GUARDED if guarded else 'a profile without shields'}."
    )
    name = OURS_HTTP if guarded else f"{OURS_HTTP}-bare"
    return System(name, f"Shieldmesh, {what}", settings, partial(running, Bed(guarded=guarded, over_http=True)))


def _variants() -> Sequence[System]:
    """The mesh with one thing changed."""
    changed = {
        "mesh-bare": ("no shields", Bed(guarded=False)),
        "mesh-sampled": ("1 % of the turns traced", Bed(trace_ratio=0.01)),
        "mesh-untraced": ("no turn traced", Bed(trace_ratio=0.0)),
        "mesh-memory-log": ("log in memory", Bed(environment={"SHIELDMESH_ORCHESTRATOR_TURN_LOG": "memory:"})),
        "mesh-redis": ("log in Redis, Redis included", Bed(redis=True)),
        "mesh-workers": ("two gateway workers", Bed(workers=2)),
        "mesh-replicas": ("two gateways, two orchestrators, log in Redis", Bed(replicas=2, redis=True)),
    }
    return [
        System(name, f"Shieldmesh, {change}", "As above otherwise.", partial(running, bed))
        for name, (change, bed) in changed.items()
    ]


def _one_core() -> System:
    settings = "As above, all services confined to one core; the client has the other one."
    return System("mesh-one-core", "Shieldmesh on one core", settings, partial(running, Bed(cores=frozenset({0}))))
