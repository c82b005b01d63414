"""A candidate policy beside a turn: it changes nothing that the client sees, and how it compares is told."""

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import format_span_id

from services.orchestrator import shadow
from services.shield.catalogue import Catalogue
from services.shield.servicer import ShieldServicer
from shieldmesh import context
from shieldmesh.client.events import Delta, Event, Finished, Verdict
from shieldmesh.v1 import policy_pb2, shield_pb2, shield_pb2_grpc
from tests.promises.mesh import Mesh, OpenService, deny, eventually, running, tasks_at_work
from tests.promises.observing import Observed, observed

REDACTED = "Write to jane@example.org, please."
BLOCKED = "Ask about project bluebird, or jane@example.org."
LIVE: dict[str, Any] = {
    "input": {"shields": [deny("stop", "flag")]},
    "output": {"shields": [{"type": "pii", "action": "redact"}, deny("project bluebird")]},
}
BESIDE = LIVE | {"shadow": "next"}
NEXT: dict[str, Any] = {
    "input": {"shields": [deny("stop")]},
    "output": {"shields": [{"type": "pii", "action": "flag"}]},
}

Requests = AsyncIterator[shield_pb2.InspectStreamRequest]
Answers = AsyncGenerator[shield_pb2.InspectStreamResponse, None]


async def say(mesh: Mesh, text: str, profile: str) -> list[Event]:
    """All events of a turn whose model repeats the text."""
    return [event async for event in mesh.client.chat(text, profile=profile, timeout=30)]


def seen(events: list[Event]) -> dict[str, Any]:
    """What a client sees of a turn that another one of the same text must show too: everything but ids and times."""
    (finished,) = (event for event in events if isinstance(event, Finished))
    return {
        "text": "".join(event.text for event in events if isinstance(event, Delta)),
        "verdicts": [(v.shield, v.direction, v.action, v.findings, v.error) for v in events if isinstance(v, Verdict)],
        "reason": finished.reason,
        "receipt": (finished.receipt.released_characters, finished.receipt.redacted_characters),
        "input": finished.usage.prompt_tokens,
    }


def counts(told: Observed, metric: str, *labels: str) -> Counter[tuple[str, ...]]:
    """A counter's values by some of its labels, without what these begin with."""
    found: Counter[tuple[str, ...]] = Counter()
    data = told.reader.get_metrics_data()
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for each in scope.metrics:
                for point in each.data.data_points if each.name == metric else ():
                    attributes = point.attributes or {}
                    found[tuple(str(attributes.get(label)) for label in labels)] += int(getattr(point, "value", 0))
    return found


def outcomes(told: Observed) -> Counter[tuple[str, ...]]:
    """How the candidates ended."""
    return counts(told, "shieldmesh.shadow.turns", "shieldmesh.shadow.outcome")


class Misbehaving(ShieldServicer):
    """The real shields for everybody but shadows."""

    def __init__(self, misbehave: Callable[[Requests], Answers]) -> None:
        super().__init__(Catalogue(capacity=64, default_timeout=5.0), max_characters=1_000_000)
        self._misbehave = misbehave

    async def Inspect(  # noqa: N802  # the contract's name
        self, request: shield_pb2.InspectRequest, context: object
    ) -> shield_pb2.InspectResponse:
        if not _for_a_shadow():
            return await super().Inspect(request, context)
        verdicts = [
            verdict async for answer in self._misbehave(_no_requests()) for verdict in answer.clearance.verdicts
        ]
        return shield_pb2.InspectResponse(verdicts=verdicts)

    def InspectStream(self, request_iterator: Requests, context: object) -> Answers:  # noqa: N802  # the contract's name
        if not _for_a_shadow():
            return super().InspectStream(request_iterator, context)
        return self._misbehave(request_iterator)


def _for_a_shadow() -> bool:
    return context.SHADOW in context.current().values


async def _no_requests() -> Requests:
    for _ in ():
        yield shield_pb2.InspectStreamRequest()


def _answer(**fields: Any) -> shield_pb2.InspectStreamResponse:
    return shield_pb2.InspectStreamResponse(clearance=shield_pb2.Clearance(**fields))


async def hangs(requests: Requests) -> Answers:
    """Never answers, and reads nothing."""
    del requests
    await asyncio.Event().wait()
    yield _answer()


async def fails(requests: Requests) -> Answers:
    """Fails at once."""
    del requests
    raise RuntimeError("the candidate's model does not load")
    yield _answer()


async def ends(requests: Requests) -> Answers:
    """Ends without having looked."""
    del requests
    for _ in ():
        yield _answer()


async def blocks(requests: Requests) -> Answers:
    """Blocks before it has seen anything."""
    del requests
    verdict = policy_pb2.Verdict(
        shield="no", direction=policy_pb2.DIRECTION_OUTPUT, action=policy_pb2.ACTION_BLOCK, error="SHIELD_FAILED"
    )
    yield _answer(verdicts=[verdict])


async def raves(requests: Requests) -> Answers:
    """Says what cannot be, more often than anybody wants to hear it."""
    edit = shield_pb2.Edit(start=9, end=3, replacement="leaked")
    verdicts = [policy_pb2.Verdict(shield="no", action=policy_pb2.ACTION_REDACT, error="X", text_index=99)] * 100
    for _ in range(100):
        yield _answer(lane=63, watermark=10**9, edits=[edit], verdicts=verdicts)
    async for _ in requests:
        yield _answer(lane=0, watermark=10**9)


def shields(servicer: shield_pb2_grpc.ShieldServiceServicer) -> OpenService:
    """A shield service that is this servicer."""

    @asynccontextmanager
    async def opener(server: grpc.aio.Server) -> AsyncGenerator[None]:
        shield_pb2_grpc.add_ShieldServiceServicer_to_server(servicer, server)
        yield

    return opener


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Candidates have no time after their turn."""
    monkeypatch.setattr(shadow, "PATIENCE", 0.05)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("text", [REDACTED, BLOCKED, "word " * 400])
@pytest.mark.parametrize(
    ("misbehave", "ending"),
    [(hangs, "abandoned"), (fails, "failed"), (ends, "compared"), (blocks, "compared"), (raves, "abandoned")],
)
async def test_a_shadow_changes_nothing_that_the_client_sees(
    tmp_path: Path, misbehave: Callable[[Requests], Answers], ending: str, text: str
) -> None:
    """One that hangs, fails, ends, blocks or raves leaves the turn as it is without one; it is counted, and goes."""
    profiles = {"live": LIVE, "beside": BESIDE, "next": NEXT}
    replaced = {"shield": shields(Misbehaving(misbehave))}
    with observed() as told:
        async with running(tmp_path, profiles=profiles, replaced=replaced) as mesh:
            alone = seen(await say(mesh, text, "live"))
            assert seen(await say(mesh, text, "beside")) == alone
            await eventually(lambda: sum(outcomes(told).values()) == 1)
            assert outcomes(told) == {(ending,): 1}
            await mesh.idle()
            await eventually(lambda: not tasks_at_work())
            await eventually(lambda: not told.spans.open)
        gc.collect()
        assert "never retrieved" not in told.stream.getvalue()


async def test_a_shadow_that_falls_behind_is_given_up(tmp_path: Path) -> None:
    """While the turn goes on: no more than a window of text waits for it."""
    replaced = {"shield": shields(Misbehaving(hangs))}
    live = BESIDE | {"model": "endless"}
    with observed() as told:
        async with running(tmp_path, profiles={"live": live, "next": NEXT}, replaced=replaced, window=100) as mesh:
            async with mesh.client.chat("go", profile="live", timeout=30) as turn:
                async for _ in turn:
                    if outcomes(told):
                        break
            assert outcomes(told) == {("abandoned",): 1}
            await mesh.idle()


async def test_differences_are_counted_and_told(tmp_path: Path) -> None:
    """By way and by how the candidate's answer compares; in one line, without what anybody said."""
    profiles = {"live": BESIDE, "next": NEXT}
    with observed() as told:
        async with running(tmp_path, profiles=profiles) as mesh:
            await say(mesh, f"{REDACTED} 192.0.2.1", "live")
            await eventually(lambda: bool(outcomes(told)))
            await mesh.idle()
    labels = ("shieldmesh.profile", "shieldmesh.shadow.candidate", "shieldmesh.direction", "shieldmesh.shadow.compared")
    assert counts(told, "shieldmesh.shadow.findings", *labels) == {("live", "next", "output", "milder"): 2}
    (line,) = (line for line in told.lines() if line["event"] == "shadow compared")
    assert (line["profile"], line["candidate"], line["same"], line["different"]) == ("live", "next", 0, 2)
    assert line["differences"][0] == "output 0 9-25 email: redact -> flag"
    assert line["turn"]
    assert "jane" not in told.stream.getvalue()


async def test_a_blocked_input_is_compared_on_the_way_in_alone(tmp_path: Path) -> None:
    """The candidate would not have asked the model: what it said does not count."""
    with observed() as told:
        async with running(tmp_path, profiles={"live": BESIDE, "next": NEXT}) as mesh:
            await say(mesh, "stop: jane@example.org", "live")
            await eventually(lambda: bool(outcomes(told)))
    labels = ("shieldmesh.direction", "shieldmesh.shadow.compared")
    assert counts(told, "shieldmesh.shadow.findings", *labels) == {("input", "stricter"): 1}


async def test_the_same_policy_differs_in_nothing(tmp_path: Path) -> None:
    """However the text is cut on the two ways, also where a block ends it."""
    with observed() as told:
        async with running(tmp_path, profiles={"live": LIVE | {"shadow": "twin"}, "twin": LIVE}) as mesh:
            for text in (REDACTED, BLOCKED, "stop", ""):
                await say(mesh, text, "live")
            await eventually(lambda: outcomes(told)["compared",] == 4)
    assert set(counts(told, "shieldmesh.shadow.findings", "shieldmesh.shadow.compared")) == {("same",)}


async def test_a_candidate_that_is_done_waits_for_the_turn(tmp_path: Path) -> None:
    """It can block long before the policy that acts has said anything."""
    late = {"name": "late", "backend": "replay", "options": {"text": "jane@example.org", "first_token_ms": 200}}
    live = {"model": "late", "shadow": "next", "output": {"shields": [{"type": "pii", "action": "flag"}]}}
    replaced = {"shield": shields(Misbehaving(blocks))}
    with observed() as told:
        async with running(
            tmp_path, profiles={"live": live, "next": NEXT}, models={"models": [late]}, replaced=replaced
        ) as mesh:
            await say(mesh, "hi", "live")
            await eventually(lambda: bool(outcomes(told)))
    assert counts(told, "shieldmesh.shadow.findings", "shieldmesh.shadow.compared") == {
        ("only_live",): 1,
        ("only_shadow",): 1,
    }


async def test_a_text_that_a_block_cut_ends_for_the_candidate_too(tmp_path: Path) -> None:
    """What it has not decided by then, it decides on what there was."""
    whole: dict[str, Any] = {"type": "json_schema", "action": "flag", "options": {"schema": {}}}
    profiles: dict[str, dict[str, Any]] = {
        "live": {"shadow": "next", "output": {"shields": [deny("stop")]}},
        "next": {"output": {"shields": [whole]}},
    }
    with observed() as told:
        async with running(tmp_path, profiles=profiles) as mesh:
            await say(mesh, "stop " + "it now " * 100, "live")
            await eventually(lambda: bool(outcomes(told)))
    assert counts(told, "shieldmesh.shadow.findings", "shieldmesh.shadow.compared") == {
        ("only_live",): 1,
        ("only_shadow",): 1,
    }


async def test_what_the_candidate_s_shields_do_is_marked_and_not_counted(tmp_path: Path) -> None:
    """Their spans are in the turn's trace; the shields' metrics are those of the policy that acts."""
    with observed() as told:
        async with running(tmp_path, profiles={"live": BESIDE, "next": NEXT}) as mesh:
            await say(mesh, REDACTED, "live")
            await eventually(lambda: bool(outcomes(told)))
            await mesh.idle()
            await eventually(lambda: not told.spans.open)
    assert counts(told, "shieldmesh.shield.verdicts", "shieldmesh.action") == {("redact",): 1}
    spans = told.spans.ended
    (beside,) = (span for span in spans if span.name == "shadow")
    assert dict(beside.attributes or {}) == {
        "shieldmesh.shadow.candidate": "next",
        "shieldmesh.shadow.candidate.version": mesh.profiles["next"].version,
        "shieldmesh.shadow.outcome": "compared",
        "shieldmesh.shadow.differences": 1,
    }
    marked = [(span.name, (span.attributes or {}).get("shieldmesh.shadow", False)) for span in spans]
    shield_spans = Counter(mark for mark in marked if mark[0].startswith("shield "))
    assert shield_spans == {
        ("shield deny_list", False): 2,
        ("shield pii", False): 1,
        ("shield deny_list", True): 1,
        ("shield pii", True): 1,
    }
    traces = told.spans.traces()
    assert len({traces[_id(span)] for span in spans if span.name.startswith(("shadow", "shield "))}) == 1


def _id(span: ReadableSpan) -> str:
    own = span.get_span_context()
    assert own is not None
    return format_span_id(own.span_id)


@pytest.mark.usefixtures("impatient")
async def test_a_cancelled_turn_takes_its_shadow_with_it(tmp_path: Path) -> None:
    """Nothing is compared with a turn that has no end."""
    endless = {"model": "endless", "shadow": "next", "output": NEXT["output"]}
    with observed() as told:
        async with running(tmp_path, profiles={"live": endless, "next": NEXT}) as mesh:
            async with mesh.client.chat("go", profile="live", timeout=30) as turn:
                async for event in turn:
                    if isinstance(event, Delta):
                        break
            await mesh.idle()
            await eventually(lambda: not tasks_at_work())
    assert not outcomes(told)
    assert [line["event"] for line in told.lines() if line["event"].startswith("shadow")] == []


@pytest.mark.usefixtures("impatient")
async def test_too_many_shadows_are_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit turns run as they do without a candidate, and that is counted."""
    monkeypatch.setattr("services.orchestrator.shadow.Shadows.__init__.__defaults__", (1,))
    monkeypatch.setattr(shadow, "PATIENCE", 10.0)
    replaced = {"shield": shields(Misbehaving(hangs))}
    with observed() as told:
        async with running(tmp_path, profiles={"live": BESIDE, "next": NEXT}, replaced=replaced) as mesh:
            first, second = [seen(await say(mesh, REDACTED, "live")) for _ in range(2)]
            assert first == second
            assert outcomes(told) == {("abandoned",): 1}


async def test_a_candidate_sees_the_identity_of_the_turn(tmp_path: Path) -> None:
    """Its calls carry the turn's ids, the candidate's name, and the mark of a shadow that no client can set."""
    async with running(tmp_path, profiles={"live": BESIDE, "next": NEXT}) as mesh:
        await say(mesh, REDACTED, "live")
        await eventually(lambda: sum(call.context.profile == "next" for call in mesh.served) == 2)
        await mesh.idle()
        theirs = [call.context for call in mesh.served if call.context.profile == "next"]
        ours = next(call.context for call in mesh.served if call.service == "inference")
    assert {each.request_id for each in theirs} == {ours.request_id}
    assert [dict(each.values) for each in theirs] == [{"shadow": "live"}] * 2
    assert context.SHADOW not in ours.values
