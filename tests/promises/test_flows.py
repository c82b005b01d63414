"""The promises hold for flows: Python in the place of the model, whose author does nothing for them.

P1 isolation, P2 one trace, P3 exact usage, P4 no leak, P6 cancel means stop, P7 deadlines, P8 bounded memory,
P11 the whole path.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, format_span_id, format_trace_id

import shieldmesh
from services.orchestrator import generation
from services.orchestrator.flows.catalogue import Catalogue, NamedFlow
from shieldmesh import Delta, Finished, FlowTurn, MeshError, context
from shieldmesh.flow import Flow
from shieldmesh.telemetry import Name
from shieldmesh.v1 import inference_pb2
from shieldmesh.window import TOKENS

from .mesh import TIMEOUT, Mesh, deny, eventually, running, tasks_at_work
from .observing import Observed, observed

CHAT = "shieldmesh.v1.ChatService/Chat"
GENERATE = "shieldmesh.v1.InferenceService/Generate"
SECRET = "exception-text-marker"


@asynccontextmanager
async def flowing(directory: Path, flow: Flow, **policy: Any) -> AsyncGenerator[tuple[Mesh, Observed]]:
    """A mesh whose default profile is answered by a flow; nothing is left of its turns afterwards."""
    name = getattr(flow, "__name__", "")
    wanted = {"name": name, "modules": policy.pop("modules", {})}
    profiles = {"default": {"flow": wanted, **policy}, "plain": {}}
    with observed() as seen, pytest.MonkeyPatch.context() as patched:
        # Beyond it a stopped engine is cut off without its account: a bound in time, and no time is tested here.
        patched.setattr(generation, "STOP_SECONDS", TIMEOUT)
        catalogue = Catalogue([NamedFlow(name, flow)])
        async with running(directory, profiles=profiles, flows=catalogue) as mesh:
            yield mesh, seen
            await mesh.idle()
            await eventually(lambda: not tasks_at_work())
            await eventually(lambda: not seen.spans.open)


def told(seen: Observed) -> dict[str, Any]:
    """The line of the only turn."""
    (line,) = [each for each in seen.lines() if each["event"].startswith("turn ")]
    return line


def generations(seen: Observed) -> list[dict[str, Any]]:
    """The engine's own lines."""
    return [line for line in seen.lines() if line["event"] == "generation ended"]


async def refine(turn: FlowTurn) -> AsyncGenerator[str | shieldmesh.Event]:
    """Two calls, of which the second is passed on."""
    draft = await turn.model().ask(turn.messages)
    async for event in turn.model("other").chat(f"better: {draft.text}"):
        yield event


async def test_p03_the_usage_is_the_sum_of_all_calls(tmp_path: Path) -> None:
    """What the turn costs is what the engine counted in both calls, in the event and in the line."""
    async with flowing(tmp_path, refine, modules={"other": "echo"}) as (mesh, seen):
        result = await mesh.client.chat("one two three", timeout=TIMEOUT).result()
    assert result.text == "better: one two three"
    ends = generations(seen)
    assert len(ends) == 2
    for kind in ("prompt", "completion"):
        assert getattr(result.finished.usage, f"{kind}_tokens") == sum(end[f"{kind}_tokens"] for end in ends)
        assert told(seen)[f"{kind}_tokens"] == sum(end[f"{kind}_tokens"] for end in ends)
    assert result.finished.usage.completion_tokens == 7
    assert result.finished.usage.total_tokens == result.finished.usage.prompt_tokens + 7
    # The draft was generated, and has not left: the receipt counts what the flow said.
    assert result.finished.receipt.generated_characters == len(result.text)


async def both(turn: FlowTurn) -> AsyncGenerator[str]:
    """Two endless calls at the same time, told apart."""
    heard: asyncio.Queue[str] = asyncio.Queue(1)

    async def listen(name: str) -> None:
        async for event in turn.model("endless").chat(f"{name} {turn.question}"):
            if isinstance(event, Delta):
                await heard.put(name)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(listen("left"))
        tasks.create_task(listen("right"))
        while True:
            yield f" {await heard.get()}"


async def sequential(turn: FlowTurn) -> AsyncGenerator[str | shieldmesh.Event]:
    """One endless call, left in the middle without being closed, and another one."""
    half = turn.model("endless").chat("first")
    await anext(half)
    async for event in turn.model("endless").chat("second"):
        yield event


@pytest.mark.parametrize("flow", [both, sequential])
async def test_p06_a_client_that_leaves_ends_all_calls(tmp_path: Path, flow: Flow) -> None:
    """However a flow calls, all its engines stop, and the turn's account is exactly what they counted."""
    async with flowing(tmp_path, flow, modules={"endless": "endless"}) as (mesh, seen):
        turn = mesh.client.chat("hello", timeout=TIMEOUT)
        for _ in range(20):
            await anext(turn)
        assert mesh.model("endless").admission.running == 2
        await turn.aclose()
        await mesh.idle()
        ends = generations(seen)
        assert [end["reason"] for end in ends] == ["CANCELLED", "CANCELLED"]
        assert told(seen)["event"] == "turn cancelled"
        for kind in ("prompt", "completion"):
            assert told(seen)[f"{kind}_tokens"] == sum(end[f"{kind}_tokens"] for end in ends)
        assert mesh.generated() == told(seen)["completion_tokens"]


async def test_p06_a_call_that_the_flow_leaves_stops_though_the_turn_goes_on(tmp_path: Path) -> None:
    """A flow that has heard enough of a module has its engine stop, before the turn has ended."""
    left = asyncio.Event()

    async def enough(turn: FlowTurn) -> AsyncGenerator[str]:
        async with turn.model("endless").chat("on and on") as answer:
            async for event in answer:
                if isinstance(event, Delta):
                    yield event.text
                    break
        await left.wait()

    async with flowing(tmp_path, enough, modules={"endless": "endless"}) as (mesh, seen):
        turn = asyncio.create_task(mesh.client.chat("hello", timeout=TIMEOUT).result())
        await eventually(lambda: len(generations(seen)) == 1)
        assert mesh.model("endless").admission.running == 0
        left.set()
        result = await turn
        assert result.finished.usage.completion_tokens == mesh.generated()


async def test_p04_the_shields_see_what_a_flow_says(tmp_path: Path) -> None:
    """A term that two yields put together is found; a draft with it, which the flow keeps to itself, goes nowhere."""

    async def cut(turn: FlowTurn) -> AsyncGenerator[str]:
        draft = await turn.model().ask("bluebird bluebird")
        assert draft.text == "bluebird bluebird"
        yield "a blue"
        yield ""
        yield "bird sings"

    async with flowing(tmp_path, cut, output={"shields": [deny("bluebird", "redact")]}) as (mesh, _):
        result = await mesh.client.chat("hi", timeout=TIMEOUT).result()
    assert result.text == "a [DENIED_TERM] sings"
    assert [verdict.shield for verdict in result.verdicts] == ["deny_list"]


async def test_p04_a_blocked_input_ends_the_flow(tmp_path: Path) -> None:
    """A block ends a flow as it ends a model, and the turn is no error."""
    async with flowing(tmp_path, both, modules={"endless": "endless"}, input={"shields": [deny("bluebird")]}) as (
        mesh,
        _,
    ):
        result = await mesh.client.chat("bluebird", timeout=TIMEOUT).result()
    assert (result.text, result.finished.reason) == ("", shieldmesh.FinishReason.CONTENT_FILTER)


async def test_a_flow_sees_the_input_behind_the_shields(tmp_path: Path) -> None:
    """What a shield redacts, the flow never sees; the profile's prompt comes first."""

    async def recite(turn: FlowTurn) -> AsyncGenerator[str]:
        yield "|".join(f"{message.role}: {message.text}" for message in turn.messages)

    policy = {"prompt": "Be kind.", "input": {"shields": [deny("bluebird", "redact")]}}
    async with flowing(tmp_path, recite, **policy) as (mesh, _):
        assert await mesh.client.chat("a bluebird", timeout=TIMEOUT).text() == (
            "system: Be kind.|user: a [DENIED_TERM]"
        )


def path(error: MeshError) -> list[tuple[str, str]]:
    """The services and methods of the hops."""
    return [(hop.service, hop.method) for hop in error.hops]


async def breaks(turn: FlowTurn) -> AsyncGenerator[str]:
    """Fails in a way of its own, with words that are nobody's business."""
    yield turn.question
    raise ValueError(f"{SECRET} {turn.question}")


async def breaks_in_a_group(turn: FlowTurn) -> AsyncGenerator[str]:
    """The same in a task."""

    async def work() -> None:
        raise ValueError(f"{SECRET} {turn.question}")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(work())
        tasks.create_task(asyncio.sleep(TIMEOUT))
    yield ""


async def says_numbers(turn: FlowTurn) -> AsyncGenerator[Any]:
    """Yields what is no text."""
    yield turn.messages


async def wants_more(turn: FlowTurn) -> AsyncGenerator[str]:
    """Wants a module that the profile does not name."""
    yield (await turn.model("nobody").ask("hi")).text


@pytest.mark.parametrize(
    ("flow", "reason", "words"),
    [
        (breaks, "FLOW_FAILED", "the flow breaks failed with ValueError"),
        (breaks_in_a_group, "FLOW_FAILED", "the flow breaks_in_a_group failed with ValueError"),
        (says_numbers, "FLOW_FAILED", "a value of the type tuple"),
        (wants_more, "MODULE_NOT_FOUND", "'nobody'"),
    ],
)
async def test_p11_a_flow_that_fails(tmp_path: Path, flow: Flow, reason: str, words: str) -> None:
    """The error says which flow failed with what type of exception, where on the path, and none of its words."""
    async with flowing(tmp_path, flow) as (mesh, seen):
        with pytest.raises(MeshError, match=words) as caught:
            await mesh.client.chat("my-prompt-marker", timeout=TIMEOUT).result()
    error = caught.value
    assert error.reason == reason
    assert path(error) == [("gateway", CHAT), ("orchestrator", CHAT), ("flow", flow.__name__)]
    assert len({hop.span_id for hop in error.hops}) == 3
    for said in (str(error), repr(error), seen.stream.getvalue()):
        assert SECRET not in said
        assert "my-prompt-marker" not in said


async def test_p11_a_module_that_fails(tmp_path: Path) -> None:
    """The error of a module's engine keeps its type, its reason and its path, below the flow."""

    async def asks(turn: FlowTurn) -> AsyncGenerator[str]:
        yield "so far, so good: "
        yield (await turn.model().ask("one two three four")).text

    async with flowing(tmp_path, asks, model_options={"fail_after": 2}) as (mesh, seen):
        text: list[str] = []

        async def read() -> None:
            nonlocal text
            async for event in mesh.client.chat("hello", timeout=TIMEOUT):
                text += [event.text] if isinstance(event, Delta) else []

        with pytest.raises(shieldmesh.InternalError) as caught:
            await read()
    assert "".join(text) == "so far, so good: "
    assert caught.value.reason == "ENGINE_FAILED"
    assert path(caught.value) == [
        ("gateway", CHAT),
        ("orchestrator", CHAT),
        ("flow", "asks"),
        ("inference", GENERATE),
    ]
    elapsed = [hop.elapsed for hop in caught.value.hops]
    assert elapsed == sorted(elapsed, reverse=True)
    assert told(seen)["completion_tokens"] == 2


async def insists(turn: FlowTurn) -> AsyncGenerator[str]:
    """Asks for ever, whatever happens."""
    while True:
        try:
            await turn.model().ask("again")
        except MeshError:
            continue
    yield ""


async def insists_in_tasks(turn: FlowTurn) -> AsyncGenerator[str]:
    """The same, many times at once."""
    async with asyncio.TaskGroup() as tasks:
        for _ in range(50):
            tasks.create_task(turn.model("never").ask("hi"))
    yield ""


@pytest.mark.parametrize("flow", [insists, insists_in_tasks])
async def test_a_flow_that_loops_is_stopped(tmp_path: Path, flow: Flow) -> None:
    """One call more than the limit ends the turn, whatever the flow does about the error."""
    async with flowing(tmp_path, flow, modules={"never": "never"}, limits={"calls": 5}) as (mesh, seen):
        with pytest.raises(shieldmesh.ResourceExhaustedError) as caught:
            await mesh.client.chat("hello", timeout=TIMEOUT).result()
        await mesh.idle()
        assert len(generations(seen)) == 5
    assert caught.value.reason == "FLOW_LIMIT"
    assert path(caught.value)[-1][0] == "flow"


async def test_p07_a_flow_that_sleeps_is_stopped(tmp_path: Path) -> None:
    """The profile's duration ends a flow that says nothing and asks nobody."""

    async def sleeps(turn: FlowTurn) -> AsyncGenerator[str]:
        await asyncio.Event().wait()
        yield turn.question

    async with flowing(tmp_path, sleeps, limits={"duration": 0.05}) as (mesh, _):
        with pytest.raises(shieldmesh.DeadlineExceededError) as caught:
            await mesh.client.chat("hello", timeout=TIMEOUT).result()
    assert caught.value.reason == "TURN_TOO_LONG"


async def test_p08_a_reader_that_stalls_stops_the_modules(tmp_path: Path) -> None:
    """What a flow passes on is generated no faster than the client reads, what it hears no faster than it does."""
    go_on = asyncio.Event()

    async def passes(turn: FlowTurn) -> AsyncGenerator[str | shieldmesh.Event]:
        async with turn.model("flood").chat("aside") as aside:
            await anext(aside)
            await go_on.wait()
            async for event in turn.model("flood").chat("flood"):
                yield event

    async with flowing(tmp_path, passes, modules={"flood": "flood"}) as (mesh, _):
        turn = mesh.client.chat("hello", timeout=TIMEOUT)
        await anext(turn)
        aside = await _stands_still(mesh)
        assert 0 < aside < 20  # of 2,000
        go_on.set()
        await anext(turn)
        assert aside < await _stands_still(mesh) < 300
        await turn.aclose()


async def _stands_still(mesh: Mesh) -> int:
    """How much is generated when the engine has made no step while the loop went round often."""
    before = -1
    while before != mesh.generated():
        before = mesh.generated()
        for _ in range(200):
            await mesh.inference.ListModels(inference_pb2.ListModelsRequest(), timeout=TIMEOUT)
    return before


async def test_p08_a_reader_that_stalls_stops_a_module(tmp_path: Path) -> None:
    """The same of a module by URL, without a flow; a reader that comes back gets the rest."""
    many = {"name": "many", "backend": "replay", "options": {"pieces": ["w "] * 10_000}}
    async with running(tmp_path, models={"models": [many]}) as mesh:
        where = f"grpc+{mesh.target('inference')}?model=many"
        async with shieldmesh.Module(where).chat("hello", timeout=TIMEOUT) as answer:
            await anext(answer)
            assert 0 < await _stands_still(mesh) <= TOKENS
            rest = [event async for event in answer]
        assert sum(event.token_count for event in rest if isinstance(event, Delta)) == 10_000
        await mesh.idle()


async def test_p02_parallel_calls_have_exact_parents(tmp_path: Path) -> None:
    """One trace: the flow under the orchestrator's call, each module under the flow, its engine under the module."""

    async def compares(turn: FlowTurn) -> AsyncGenerator[str]:
        async with asyncio.TaskGroup() as tasks:
            left = tasks.create_task(turn.model("left").ask("one"))
            right = tasks.create_task(turn.model("right").ask("one two"))
        yield f"{left.result().text}, {right.result().text}"

    async with flowing(tmp_path, compares, modules={"left": "echo", "right": "echo"}) as (mesh, seen):
        result = await mesh.client.chat("hello", timeout=TIMEOUT).result()
        await mesh.idle()
    assert result.text == "one, one two"
    # The client's own span is in a trace of its own: the gateway begins the turn's.
    spans = [span for span in seen.spans.ended if span.parent or span.name != CHAT or span.kind is SpanKind.SERVER]
    assert {format_trace_id(span.context.trace_id) for span in spans if span.context} == {result.started.trace_id}
    by_id = {format_span_id(span.context.span_id): span for span in spans if span.context}

    def above(span: ReadableSpan) -> list[str]:
        names: list[str] = []
        while span.parent is not None and (parent := by_id.get(format_span_id(span.parent.span_id))) is not None:
            names.append(parent.name)
            span = parent
        return names

    for module, tokens in (("left", 1), ("right", 2)):
        (span,) = [each for each in spans if each.name == f"module {module}"]
        assert above(span)[:2] == ["flow compares", CHAT]
        assert (span.attributes or {})[Name.OUTPUT_TOKENS] == tokens
        (engine,) = [each for each in spans if each.name == "engine" and f"module {module}" in above(each)]
        assert above(engine)[:4] == [GENERATE, GENERATE, f"module {module}", "flow compares"]
    (flow,) = [each for each in spans if each.name == "flow compares"]
    assert (flow.attributes or {})[Name.OUTPUT_TOKENS] == 3


async def test_p01_flows_at_the_same_time_never_meet(tmp_path: Path) -> None:
    """Each of many turns hears its own words from its own modules, in its own context, in whatever order they run."""

    async def owned(turn: FlowTurn) -> AsyncGenerator[str]:
        async with asyncio.TaskGroup() as tasks:
            answers = [tasks.create_task(turn.model().ask(turn.question)) for _ in range(3)]
        yield context.current().session_id
        for answer in answers:
            yield f" {answer.result().text}"

    async with flowing(tmp_path, owned) as (mesh, _):
        owners = [f"s-{number}" for number in range(24)]
        texts = await asyncio.gather(
            *(mesh.client.chat(owner, session=owner, timeout=TIMEOUT).text() for owner in owners)
        )
        assert texts == [" ".join([owner] * 4) for owner in owners]
        asked = [call.context for call in mesh.served if call.service == "inference"]
        assert sorted(each.session_id for each in asked) == sorted(owners * 3)
        assert len({(each.session_id, each.request_id) for each in asked}) == len(owners)
        assert {each.profile for each in asked} == {"default"}


async def test_the_end_of_a_module_can_be_the_end_of_the_turn(tmp_path: Path) -> None:
    """A flow that passes a module's events on passes its reason on; its limits on tokens hold for each call."""
    policy = {"limits": {"output_tokens": 2}}
    async with flowing(tmp_path, refine, modules={"other": "echo"}, **policy) as (mesh, _):
        result = await mesh.client.chat("one two three", timeout=TIMEOUT).result()
    assert result.text == "better: one"
    assert result.finished.reason == shieldmesh.FinishReason.LENGTH


async def test_whose_sampling_holds(tmp_path: Path) -> None:
    """The profile's holds for its model, where a call says nothing else, and for no other module."""

    async def samples(turn: FlowTurn) -> AsyncGenerator[str]:
        asked = [
            turn.model().ask("one two three"),
            turn.model().ask("one two three", sampling=shieldmesh.Sampling(max_tokens=1)),
            turn.model("other").ask("one two three"),
        ]
        for each in asked:
            yield f"{(await each).text}."

    policy = {"modules": {"other": "echo"}, "sampling": {"max_tokens": 2}}
    async with flowing(tmp_path, samples, **policy) as (mesh, _):
        assert await mesh.client.chat("hello", timeout=TIMEOUT).text() == "one two.one.one two three."


async def test_a_module_ends_with_its_turn(tmp_path: Path) -> None:
    """A task that a flow leaves behind can ask nobody any more."""
    kept: list[Callable[[], Any]] = []

    async def leaks(turn: FlowTurn) -> AsyncGenerator[str]:
        kept.append(lambda: turn.model().ask("hi"))
        yield "done"

    async with flowing(tmp_path, leaks) as (mesh, _):
        events = [event async for event in mesh.client.chat("hello", timeout=TIMEOUT)]
        assert isinstance(events[-1], Finished)
        with pytest.raises(shieldmesh.FailedPreconditionError, match="over"):
            await kept[0]()
        assert mesh.generated() == 0
