"""P1: nothing of one turn, no token, value, span, line or error, shows another's identity, however they interleave."""

import asyncio
import gc
import multiprocessing
import random
import uuid
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from opentelemetry.trace import SpanKind

import shieldmesh
from shieldmesh import MeshError, calls, channels, context, telemetry
from shieldmesh.context import RequestContext
from shieldmesh.interceptors.session import LARGEST_BAGGAGE
from shieldmesh.telemetry import Name
from shieldmesh.v1 import inference_pb2

from .elsewhere import who
from .fakes import registry
from .jitter import shake
from .mesh import TIMEOUT, Mesh, Served, deny, eventually, running, tasks_at_work
from .observing import TOO_LATE, Observed, observed
from .workshop import OWNER, Workshop, WorkshopBackend

TURNS = 64
THREADS = 8
TERM = "bluebird"
PROFILES: dict[str, dict[str, Any]] = {
    "whole": {"model": "workshop"},
    "guarded": {
        "model": "workshop",
        "input": {"shields": [deny("nobody")]},
        "output": {"shields": [deny(TERM), deny("nobody", "redact", name="other")]},
    },
    "failing": {"model": "workshop", "model_options": {"fail_after": 5}},
    "slow": {"model": "workshop", "model_options": {"pace": 400}},
    "cut": {"model": "workshop", "model_options": {"cut": "random", "max_length": 5, "seed": 7}},
}


@dataclass
class Client:
    """One client and its turn: everything in it carries its name."""

    name: str
    profile: str
    tone: str
    blocked: bool
    leaves_after: int | None
    text: str = ""
    started: shieldmesh.Started | None = None
    error: MeshError | None = None

    @property
    def prompt(self) -> str:
        """Words that all bear the name, with what a shield blocks among them or not."""
        words = [f"{self.name} "] * 12 + ([f"{TERM} "] if self.blocked else []) + [f"{self.name} "] * 4
        return "".join(words)

    def identity(self) -> RequestContext:
        """Whose work this is in the client's own process; its values are session values."""
        return RequestContext(values=MappingProxyType({"tone": self.tone} if self.tone else {}))

    def take(self, event: shieldmesh.Event) -> bool:
        """Notes an event; whether to go on."""
        match event:
            case shieldmesh.Started():
                self.started = event
            case shieldmesh.Delta():
                self.text += event.text
            case _:
                pass
        return self.leaves_after is None or event.sequence < self.leaves_after


def clients(chance: random.Random) -> list[Client]:
    """All clients of a round."""
    return [
        Client(
            name=f"c-{chance.getrandbits(64):016x}",
            profile=chance.choice(list(PROFILES)),
            tone=chance.choice(["", f"tone-{number}", "a b,c;d=é%"]),
            blocked=chance.random() < 0.2,
            leaves_after=chance.choice([None, None, None, 2, 4]),
        )
        for number in range(TURNS)
    ]


async def read(client: Client, mesh: shieldmesh.Mesh, chance: random.Random) -> None:
    """Runs the client's turn, with pauses of its own."""
    with context.use(client.identity()):
        turn = mesh.chat(client.prompt, profile=client.profile, session=client.name, timeout=TIMEOUT)
    try:
        async with turn:
            async for event in turn:
                for _ in range(chance.randint(0, 5)):
                    await asyncio.sleep(0)
                if not client.take(event):
                    break
    except MeshError as error:
        client.error = error


def read_blocking(client: Client, target: str) -> None:
    """The same in a thread without a loop."""
    with shieldmesh.connect_sync(target) as mesh, context.use(client.identity()):
        try:
            with mesh.chat(client.prompt, profile=client.profile, session=client.name, timeout=TIMEOUT) as turn:
                for event in turn:
                    if not client.take(event):
                        break
        except MeshError as error:
            client.error = error


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_turns_that_interleave_at_random(tmp_path: Path, seed: int) -> None:
    """Of 64 turns at once, over tasks, threads, pools and shared workers, each sees itself and nobody else."""
    chance = random.Random(seed)
    everybody = clients(chance)
    with observed() as seen, ThreadPoolExecutor(THREADS) as threads:
        shake(asyncio.get_running_loop(), seed)
        workshop = Workshop(chance)
        async with (
            workshop.open(),
            running(tmp_path, profiles=PROFILES, models=registry(workshop=WorkshopBackend(workshop))) as mesh,
        ):
            client = mesh.client
            loop = asyncio.get_running_loop()
            target = mesh.target("gateway")
            blocking = [loop.run_in_executor(threads, read_blocking, each, target) for each in everybody[:THREADS]]
            await asyncio.gather(*blocking, *(read(each, client, chance) for each in everybody[THREADS:]))
            await mesh.idle()
            await eventually(lambda: not seen.spans.open)
    owners = check_identities(everybody)
    check_contexts(everybody, owners, mesh.served)
    check_work(owners, workshop)
    check_spans(owners, seen)
    check_lines(owners, seen)
    check_errors(everybody, owners, seen)


@dataclass(frozen=True)
class Owner:
    """Whose a trace is."""

    session: str
    turn: str
    trace: str


def check_identities(everybody: list[Client]) -> dict[str, Owner]:
    """Turns and traces are each somebody's own, and no text has another's name; the owners by name."""
    owners: dict[str, Owner] = {}
    for each in everybody:
        assert each.started is not None
        assert each.started.session_id == each.name
        assert each.started.profile == each.profile
        # All words bear a name, so a foreign piece of any length would show.
        assert each.prompt.startswith(each.text)
        owners[each.name] = Owner(each.name, each.started.turn_id, each.started.trace_id)
    assert len({owner.turn for owner in owners.values()}) == TURNS
    assert len({owner.trace for owner in owners.values()}) == TURNS
    return owners


def check_contexts(everybody: list[Client], owners: dict[str, Owner], served: list[Served]) -> None:
    """At every hop: the turn of the session, and the values of its client."""
    tones = {each.name: each.identity().values for each in everybody}
    hops = Counter(call.service for call in served)
    assert hops["gateway"] == hops["orchestrator"] == TURNS
    for call in served:
        assert call.context.request_id == owners[call.context.session_id].turn
        assert call.context.values == tones[call.context.session_id]


def check_work(owners: dict[str, Owner], workshop: Workshop) -> None:
    """Everywhere in the process: the context and the trace of the turn that the work is for."""
    assert len(workshop.seen) > TURNS
    for owner, ours, trace in workshop.seen:
        assert Owner(ours.session_id, ours.request_id, trace) == owners[owner]


def check_spans(owners: dict[str, Owner], seen: Observed) -> None:
    """Each span in the trace of its turn, with the ids of its turn, and each turn linked to one client's trace."""
    by_trace = {owner.trace: owner for owner in owners.values()}
    callers = [span for span in seen.spans.ended if span.parent is None and span.kind is SpanKind.CLIENT]
    links = [link.context.trace_id for span in seen.spans.ended for link in span.links]
    assert sorted(links) == sorted(span.context.trace_id for span in callers if span.context)
    assert len(set(links)) == TURNS
    inside = [span for span in seen.spans.ended if span not in callers]
    assert len(inside) > TURNS * 4
    for span in inside:
        assert span.context is not None
        attributes = span.attributes or {}
        owner = by_trace[f"{span.context.trace_id:032x}"]
        assert attributes.get(Name.SESSION, owner.session) == owner.session
        assert attributes.get(Name.TURN, owner.turn) == owner.turn
        assert attributes.get(OWNER, owner.session) == owner.session


def check_lines(owners: dict[str, Owner], seen: Observed) -> None:
    """Each line with all ids of one turn. Only what gRPC says about itself, outside every call, has none."""
    lines = seen.lines()
    assert len([line for line in lines if line["event"].startswith("turn ")]) == TURNS
    for line in lines:
        if line["event"].startswith(TOO_LATE):
            assert not {"session", "turn", "trace"} & line.keys()
            continue
        owner = owners[line["session"]]
        assert (line["session"], line["turn"], line["trace"]) == (owner.session, owner.turn, owner.trace)
        assert line.get("owner", owner.session) == owner.session


def check_errors(everybody: list[Client], owners: dict[str, Owner], seen: Observed) -> None:
    """The hops of an error are spans of its own trace, and its words are nobody's."""
    traces = seen.spans.traces()
    failed = [each for each in everybody if each.error is not None]
    assert failed
    for each in failed:
        assert isinstance(each.error, shieldmesh.InternalError)
        assert {traces[hop.span_id] for hop in each.error.hops} == {owners[each.name].trace}
        assert not any(name in str(each.error) for name in owners)


async def test_a_thousand_turns_leave_nothing(tmp_path: Path) -> None:
    """No id comes back, no value is passed on, and nothing of a turn lives on, with garbage collected after each."""
    turns: set[str] = set()
    sessions: set[str] = set()

    async def one(mesh: Mesh, tone: str) -> None:
        values = MappingProxyType({"tone": tone} if tone else {})
        with context.use(RequestContext(values=values)):
            turn = mesh.client.chat("hello", timeout=TIMEOUT)
        result = await turn.result()
        await mesh.idle()
        assert [dict(call.context.values) for call in mesh.served] == [dict(values)] * 3
        assert {call.context.request_id for call in mesh.served} == {result.started.turn_id}
        mesh.served.clear()
        turns.add(result.started.turn_id)
        sessions.add(result.started.session_id)

    async with running(tmp_path) as mesh:
        for number in range(20):
            await one(mesh, f"{number}" if number % 2 else "")
        await eventually(lambda: not tasks_at_work())
        before = alive()
        gc.freeze()  # what exists already need not be looked at a thousand times
        for number in range(1_000):
            await one(mesh, f"{number}" if number % 2 else "")
            gc.collect()
        gc.unfreeze()
        await eventually(lambda: not tasks_at_work())
        assert alive() == before
    assert len(turns) == len(sessions) == 1_020
    assert {uuid.UUID(each).version for each in turns | sessions} == {7}


def alive() -> Counter[str]:
    """How many objects there are of each type that has to do with turns, calls and tasks."""
    gc.collect()
    names = (f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects())
    ours = {"shieldmesh", "services", "gateway", "grpc", "asyncio", "_asyncio", "opentelemetry"}
    # What the loop has scheduled at this moment is its own: a timer that was cancelled has let go of its work.
    loops = {"asyncio.events.Handle", "asyncio.events.TimerHandle"}
    return Counter(name for name in names if name.partition(".")[0] in ours and name not in loops)


async def test_a_process_pool_works_for_whom_it_is_told() -> None:
    """`carry` takes identity, values, deadline and trace into another process; nothing stays there."""
    identity = RequestContext("s", "r", "t", "p", deadline=1e9, values=MappingProxyType({"tone": "warm"}))
    with observed(), ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        loop = asyncio.get_running_loop()
        with telemetry.span("ours"), context.use(identity):
            trace = telemetry.trace_id()
            carried = loop.run_in_executor(pool, context.carry(who))
        other = replace(identity, session_id="other", values=MappingProxyType({}))
        with telemetry.span("others"), context.use(other):
            others_trace = telemetry.trace_id()
            carried_too = loop.run_in_executor(pool, context.carry(who))
        plain = loop.run_in_executor(pool, who)
        assert await carried == (identity, trace)
        assert await carried_too == (other, others_trace)
        assert await plain == (RequestContext(), "")
        with pytest.raises(TypeError):
            (await carried)[0].values["tone"] = "cold"  # type: ignore[index]


async def test_session_values_are_few_and_known(tmp_path: Path) -> None:
    """Values cross the border by name, travel as `sm.` in baggage, and are refused when they are too large."""
    async with running(tmp_path) as mesh:
        with context.use(RequestContext(values=MappingProxyType({"mood": "grim"}))):
            unknown = mesh.client.chat("hello", timeout=TIMEOUT)
        with pytest.raises(shieldmesh.InvalidArgumentError) as refused:
            await unknown.result()
        assert (refused.value.field, [hop.service for hop in refused.value.hops]) == ("metadata.baggage", ["gateway"])
        assert "grim" not in str(refused.value)
        mesh.served.clear()

        with context.use(RequestContext(values=MappingProxyType({"tone": "x" * LARGEST_BAGGAGE}))):
            large = mesh.client.chat("hello", timeout=TIMEOUT)
        with pytest.raises(shieldmesh.InvalidArgumentError, match="too large") as unsent:
            await large.result()
        assert unsent.value.hops == ()

        method = "/shieldmesh.v1.InferenceService/ListModels"
        list_models: Any = channels.get(mesh.target("inference")).unary_unary(
            method,
            request_serializer=inference_pb2.ListModelsRequest.SerializeToString,
            response_deserializer=inference_pb2.ListModelsResponse.FromString,
        )
        baggage = (("baggage", "theirs=1,sm.tone=warm,sm=2"),)
        await list_models(inference_pb2.ListModelsRequest(), metadata=baggage, timeout=TIMEOUT)
        assert [dict(call.context.values) for call in mesh.served] == [{"tone": "warm"}]
        mesh.served.clear()

        with context.use(RequestContext(values=MappingProxyType({"tone": "warm"}))):
            await calls.unary(mesh.inference.ListModels, inference_pb2.ListModelsRequest(), timeout=TIMEOUT)
            await mesh.client.chat("hello", timeout=TIMEOUT).result()
        assert [call.metadata["baggage"] for call in mesh.served] == ["sm.tone=warm"] * 4
