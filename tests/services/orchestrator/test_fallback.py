"""Other models stand in for one that fails before its first token, as the profile says."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from shieldmesh.errors import (
    USAGE_KEY,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    MeshError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)
from shieldmesh.telemetry import Name
from shieldmesh.v1 import chat_pb2, generation_pb2, inference_pb2, policy_pb2, progress_pb2, shield_pb2
from tests.promises.observing import observed

from .serving import Asked, Generated, Script, begun, collect, ended, guards, profile, run, said, serving, text_of

GONE = UnavailableError("the server is gone", reason="UPSTREAM_UNREACHABLE")
COST = generation_pb2.Usage(prompt_tokens=5, completion_tokens=0, total_tokens=5)


class Models:
    """Models that do what a test says of them, or answer.

    Attributes:
        asked: Their names, in the order of the requests.
    """

    def __init__(self, failures: Mapping[str, MeshError], *, after: int = 0) -> None:
        """Each that fails does so after it was admitted and has said so many words."""
        self.asked: list[str] = []
        self._failures = failures
        self._after = after

    async def generate(self, requests: Asked) -> Generated:
        opening = (await anext(requests)).open
        self.asked.append(opening.model)
        yield begun()
        failure = self._failures.get(opening.model)
        for _ in range(self._after if failure else 2):
            yield said("word ")
        if failure:
            raise failure
        yield ended(2)


@pytest.mark.parametrize(
    "error",
    [
        GONE,
        UnavailableError("open", reason="CIRCUIT_OPEN", retry_after=3),
        ResourceExhaustedError("full", reason="QUEUE_FULL"),
        NotFoundError("none", reason="MODEL_NOT_FOUND"),
        FailedPreconditionError("key", reason="UPSTREAM_UNAUTHENTICATED"),
        InternalError("engine", reason="ENGINE_FAILED"),
    ],
    ids=lambda error: error.reason,
)
async def test_the_next_model_answers(tmp_path: Path, error: MeshError) -> None:
    """The client sees one turn: who answers and who did not stand in `started`."""
    models = Models({"scripted": error, "second": error})
    policy = profile(fallback=["second", "third", "fourth"], input=guards("flag"), output=guards())
    async with serving(Script(generate=models.generate), tmp_path, policy) as stub:
        first, *_, last = events = await run(stub)
    assert models.asked == ["scripted", "second", "third"]
    assert (first.started.model, list(first.started.fallback_from)) == ("third", ["scripted", "second"])
    assert text_of(events) == "word word "
    assert last.finished.reason == generation_pb2.FINISH_REASON_STOP


@pytest.mark.parametrize(
    ("error", "after"),
    [
        (GONE, 1),
        (InvalidArgumentError("too long", reason="CONTEXT_TOO_LONG"), 0),
        (InternalError("a defect"), 0),
        (FailedPreconditionError("something"), 0),
        (NotFoundError("something"), 0),
    ],
    ids=["after its first token", "wrong request", "defect", "other state", "other thing"],
)
async def test_what_another_model_does_not_mend_is_told(tmp_path: Path, error: MeshError, after: int) -> None:
    """Nothing that came is taken back, and nobody else is asked."""
    models = Models({"scripted": error}, after=after)
    events: list[chat_pb2.ChatEvent] = []
    async with serving(Script(generate=models.generate), tmp_path, profile(fallback=["second"])) as stub:
        with pytest.raises(MeshError) as caught:
            await collect(stub, events)
    assert (caught.value.reason, models.asked) == (error.reason, ["scripted"])
    assert [event.WhichOneof("event") for event in events] == ["started", "delta"][: 1 + after]


async def test_when_all_fail_the_last_error_is_told(tmp_path: Path) -> None:
    """With its path; `started` says who was asked."""
    models = Models({"scripted": GONE, "second": ResourceExhaustedError("full", reason="QUEUE_FULL", retry_after=7)})
    events: list[chat_pb2.ChatEvent] = []
    async with serving(Script(generate=models.generate), tmp_path, profile(fallback=["second"])) as stub:
        with pytest.raises(ResourceExhaustedError) as caught:
            await collect(stub, events)
    assert (caught.value.reason, caught.value.retry_after) == ("QUEUE_FULL", 7)
    assert [hop.service for hop in caught.value.hops] == ["orchestrator", "inference"]
    (started,) = events
    assert (started.started.model, list(started.started.fallback_from)) == ("second", ["scripted"])


async def test_what_failed_attempts_cost_is_counted_once(tmp_path: Path) -> None:
    """The usage of a turn is what its engines say together."""

    class Costly(Models):
        def cost(self, context: Any) -> None:
            context.set_trailing_metadata(((USAGE_KEY, COST.SerializeToString()),))

    models = Costly({"scripted": GONE})

    class Telling(Script):
        def Generate(self, request_iterator: Asked, context: Any) -> Generated:  # noqa: N802  # the contract's name
            if not models.asked:
                models.cost(context)
            return models.generate(aiter(request_iterator))

    async with serving(Telling(), tmp_path, profile(fallback=["second"])) as stub:
        *_, last = await run(stub)
    assert last.finished.usage == generation_pb2.Usage(prompt_tokens=8, completion_tokens=2, total_tokens=10)


async def test_the_trace_shows_each_attempt(tmp_path: Path) -> None:
    """One call for each model, the failed one marked, and on the turn's span who failed; metrics name who answered."""
    models = Models({"scripted": GONE})
    with observed() as seen:
        async with serving(Script(generate=models.generate), tmp_path, profile(fallback=["second"])) as stub:
            await run(stub)
    calls = [span for span in seen.spans.ended if span.name.endswith("Generate") and span.kind.name == "CLIENT"]
    assert [(span.attributes or {}).get(Name.ERROR_TYPE) for span in calls] == ["UNAVAILABLE", None]
    (chat,) = [span for span in seen.spans.ended if span.name.endswith("Chat") and span.kind.name == "SERVER"]
    assert (chat.attributes or {})[Name.FALLBACK_FROM] == ("scripted",)


async def test_started_waits_for_the_first_output_and_no_verdict_comes_before_it(tmp_path: Path) -> None:
    """A verdict on the input waits with it."""
    flagged = asyncio.Event()

    async def inspect(request: shield_pb2.InspectRequest) -> shield_pb2.InspectResponse:
        del request
        flagged.set()
        return shield_pb2.InspectResponse(verdicts=[policy_pb2.Verdict(shield="pii", action=policy_pb2.ACTION_FLAG)])

    async def generate(requests: Asked) -> Generated:
        opening = (await anext(requests)).open
        yield begun()
        if opening.model == "scripted":
            await flagged.wait()
            raise GONE
        yield said("hello")
        yield ended(1)

    policy = profile(fallback=["second"], input=guards("flag"))
    async with serving(Script(inspect=inspect, generate=generate), tmp_path, policy) as stub:
        events = await run(stub)
    assert [event.WhichOneof("event") for event in events] == ["started", "verdict", "delta", "finished"]
    assert events[0].started.model == "second"


async def test_interim_results_never_make_a_model_wait_for_its_own_first_token(tmp_path: Path) -> None:
    """One that publishes more than may wait for the client still answers, or fails and has a successor."""

    async def generate(requests: Asked) -> Generated:
        opening = (await anext(requests)).open
        yield begun()
        for _ in range(5):
            yield inference_pb2.GenerateEvent(progress=progress_pb2.Progress(name="reading.the.prompt"))
        if opening.model == "scripted":
            raise GONE
        yield said("hello")
        yield ended(1)

    async with serving(Script(generate=generate), tmp_path, profile(fallback=["second"]), window=20) as stub:
        events = await run(stub)
    assert text_of(events) == "hello"
    assert events[0].WhichOneof("event") == "started"


async def test_a_block_ends_the_wait(tmp_path: Path) -> None:
    """A turn whose input is blocked while its model is silent has all its events, and asks nobody else."""
    models = Models({})
    asked = asyncio.Event()

    async def inspect(request: shield_pb2.InspectRequest) -> shield_pb2.InspectResponse:
        del request
        await asked.wait()
        return shield_pb2.InspectResponse(verdicts=[policy_pb2.Verdict(shield="pii", action=policy_pb2.ACTION_BLOCK)])

    async def generate(requests: Asked) -> Generated:
        models.asked.append((await anext(requests)).open.model)
        yield begun()
        asked.set()
        await anext(requests)
        yield inference_pb2.GenerateEvent(
            finished=inference_pb2.GenerateFinished(reason=generation_pb2.FINISH_REASON_CANCELLED)
        )

    policy = profile(fallback=["second"], input=guards("block"))
    async with serving(Script(inspect=inspect, generate=generate), tmp_path, policy) as stub:
        events = await run(stub)
    assert [event.WhichOneof("event") for event in events] == ["started", "verdict", "finished"]
    assert events[-1].finished.reason == generation_pb2.FINISH_REASON_CONTENT_FILTER
    assert models.asked == ["scripted"]


@pytest.mark.parametrize("fallback", [["scripted"], ["a", "a"], [""], [f"m{number}" for number in range(9)]])
def test_a_fallback_names_other_models(fallback: list[str]) -> None:
    """Each once."""
    with pytest.raises(ValidationError):
        profile(fallback=fallback)
