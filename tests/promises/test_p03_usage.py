"""P3: tokens are counted once per turn, as the engine counted them, however the turn ends.

A turn's account is told in one place, its log line and its metrics; the engine has a counter and a log line of its own.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import shieldmesh
from services.inference.backend import GenerationRequest, Usage
from services.inference.replay import Replay, ReplayBackend, ReplayOptions
from services.orchestrator import generation
from shieldmesh import FinishReason, calls, context
from shieldmesh.context import RequestContext
from shieldmesh.metrics import TOKENS
from shieldmesh.telemetry import Name
from shieldmesh.v1 import chat_pb2, inference_pb2, message_pb2

from .fakes import registry
from .mesh import TIMEOUT, Mesh, deny, eventually, running, tasks_at_work
from .observing import Observed, observed

TERM = "bluebird"
TURNS = 200
AT_ONCE = 16
ENGINE = {
    "quick": {},
    "paced": {"pace": 2_000},
    "late": {"first_token_ms": 20},
    **{f"fails-{after}": {"fail_after": after} for after in (0, 1, 7, 20)},
}
GUARDS: dict[str, dict[str, Any]] = {
    "bare": {},
    "beside": {"input": {"mode": "parallel", "shields": [deny(TERM)]}},
    "before": {"input": {"mode": "gate", "shields": [deny(TERM)]}},
    "behind": {"output": {"shields": [deny(TERM)]}},
}
MIXED = {
    f"{engine}-{guard}": {"model_options": {"cut": "random", **options}, **policy}
    for engine, options in ENGINE.items()
    for guard, policy in GUARDS.items()
}
PROFILES: dict[str, dict[str, Any]] = MIXED | {"plain": {}, "narrow": {"model": "narrow"}}


@asynccontextmanager
async def accounting(
    directory: Path, monkeypatch: pytest.MonkeyPatch, *, sampled: bool = True, **options: Any
) -> AsyncGenerator[tuple[Mesh, Observed]]:
    """A mesh, and afterwards the proof that every token of its engines is in exactly one turn's account."""
    # The account of a stopped turn is waited for no longer than a client may be kept: a bound in time, not in truth.
    monkeypatch.setattr(generation, "STOP_SECONDS", TIMEOUT)
    with observed(sampled=sampled) as seen:
        async with running(directory, profiles=PROFILES, **options) as mesh:
            yield mesh, seen
            await mesh.idle()
            await eventually(lambda: not tasks_at_work())
            listed = await mesh.inference.ListModels(inference_pb2.ListModelsRequest(), timeout=TIMEOUT)
        turns, engines = told(seen, "turn"), told(seen, "generation ended")
        assert max(Counter(line["turn"] for line in turns).values()) == 1
        assert max(Counter(line["turn"] for line in engines).values()) == 1
        costs = {line["turn"]: cost(line) for line in turns}
        assert {turn: spent for turn, spent in costs.items() if spent != (0, 0, 0)} == {
            line["turn"]: cost(line) for line in engines if cost(line) != (0, 0, 0)
        }
        tokens = seen.sums(TOKENS.name, Name.TOKEN_TYPE)
        generated = sum(model.generated_tokens for model in listed.models)
        assert generated == tokens["output"] == sum(spent[2] for spent in costs.values())
        assert tokens["input"] == sum(spent[0] for spent in costs.values())
        assert tokens["cache_read"] == sum(spent[1] for spent in costs.values())
        for label, key in ((Name.PROFILE, "profile"), (Name.MODEL, "model"), (Name.TENANT, "tenant")):
            by_owner: Counter[str] = Counter()
            for line in turns:
                by_owner[line.get(key, "none")] += sum(cost(line))
            assert Counter(seen.sums(TOKENS.name, label)) == by_owner
        assert generated > 0
        assert seen.warnings() == [line for line in turns if line["event"] == "turn failed"]


def told(seen: Observed, event: str) -> list[dict[str, Any]]:
    """The lines that begin with these words."""
    return [line for line in seen.lines() if line["event"].startswith(event)]


def cost(line: dict[str, Any]) -> tuple[int, int, int]:
    """Tokens of the prompt, those of them from a cache, and those of the completion."""
    return line["prompt_tokens"], line["cached_tokens"], line["completion_tokens"]


async def test_two_hundred_turns_of_all_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns that finish, are blocked, fail or are cancelled at random: the sums agree to the token."""
    chance = random.Random(3)
    ends: Counter[str] = Counter()
    async with accounting(tmp_path, monkeypatch) as (mesh, seen):
        places = asyncio.Semaphore(AT_ONCE)

        async def one(number: int, act: Callable[[shieldmesh.Turn], Any], prompt: str, profile: str) -> None:
            async with places:
                turn = mesh.client.chat(prompt, profile=profile, session=f"s-{number}", timeout=TIMEOUT)
                ends[await act(turn)] += 1

        await asyncio.gather(
            *(one(number, _act(chance), _prompt(chance), chance.choice(list(MIXED))) for number in range(TURNS))
        )
        await mesh.idle()
        outcomes = Counter(line["event"] for line in told(seen, "turn"))
    # The mixture holds everything.
    assert min(ends[end] for end in ("stop", "content_filter", "failed", "left", "cancelled")) >= 5, ends
    assert min(outcomes[f"turn {how}"] for how in ("finished", "failed", "cancelled")) >= 10, outcomes


def _prompt(chance: random.Random) -> str:
    words = ["word"] * chance.randint(5, 60)
    if chance.random() < 0.3:
        words.insert(chance.randrange(len(words)), TERM)
    return " ".join(words)


def _act(chance: random.Random) -> Callable[[shieldmesh.Turn], Any]:
    """What a client does with its turn."""
    events, steps, gentle = chance.choice([0, 1, 2, 5, 20]), chance.randint(0, 300), chance.random() < 0.5

    async def leave_after_events(turn: shieldmesh.Turn) -> str:
        async with turn:
            for _ in range(events):
                try:
                    event = await anext(turn)
                except shieldmesh.MeshError:
                    return "failed"
                if isinstance(event, shieldmesh.Finished):
                    return event.reason.value
        return "left"

    async def read_to_the_end(turn: shieldmesh.Turn) -> str:
        try:
            return (await turn.result()).finished.reason.value
        except shieldmesh.MeshError:
            return "failed"

    async def be_cancelled(turn: shieldmesh.Turn) -> str:
        reader = asyncio.create_task(read_to_the_end(turn))
        for _ in range(steps):
            await asyncio.sleep(0)
        reader.cancel()
        await asyncio.wait([reader])
        return "cancelled" if reader.cancelled() else reader.result()

    return chance.choice([read_to_the_end, leave_after_events if gentle else be_cancelled])


@pytest.mark.parametrize("guard", list(GUARDS))
async def test_finished_says_what_the_engine_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guard: str
) -> None:
    """`finished.usage` is the engine's count, for turns that end well and for blocked ones, with what was withheld."""
    async with accounting(tmp_path, monkeypatch) as (mesh, seen):
        for prompt in ("one two three", f"one two {TERM} three " + "more " * 30):
            turn = await mesh.client.chat(prompt, profile=f"paced-{guard}", timeout=TIMEOUT).result()
            await mesh.idle()
            blocked = TERM in prompt and guard != "bare"
            assert turn.finished.reason is (FinishReason.CONTENT_FILTER if blocked else FinishReason.STOP)
            usage = turn.finished.usage
            assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
            engine = [line for line in told(seen, "generation ended") if line["turn"] == turn.started.turn_id]
            expected = [(usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)]
            assert [cost(line) for line in engine] == (expected if engine else [])
            assert engine or expected == [(0, 0, 0)]


async def test_a_turn_that_nobody_traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The account of a turn whose trace is not recorded is as complete as any other."""
    async with accounting(tmp_path, monkeypatch, sampled=False) as (mesh, seen):
        await mesh.client.chat("one two three", profile="plain", timeout=TIMEOUT).result()
        await mesh.idle()
        assert [cost(line) for line in told(seen, "turn finished")] == [(3, 0, 3)]
        assert not seen.spans.ended


async def test_every_tenant_has_its_own_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens are counted for the tenant whose turn it was."""
    async with accounting(tmp_path, monkeypatch) as (mesh, seen):
        for tenant, prompt in (("acme", "one two"), ("umbrella", "one two three")):
            message = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.ContentPart(text=prompt)])
            request = chat_pb2.ChatRequest(profile="plain", messages=[message])
            with context.use(RequestContext(tenant_id=tenant, request_id=f"turn-of-{tenant}")):
                async with calls.stream(mesh.orchestrator.Chat, request, timeout=TIMEOUT) as events:
                    assert [event.sequence async for event in events]
        await mesh.idle()
        assert seen.sums(TOKENS.name, Name.TENANT) == {"acme": 4, "umbrella": 6}


class CachingBackend(ReplayBackend):
    """Echoes, and knows half of every prompt already."""

    def generate(self, request: GenerationRequest) -> Any:
        """See `Backend.generate`."""
        return _Cached(super().generate(request))


class _Cached:
    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self.batches = replay.batches
        self.stop = replay.stop

    @property
    def usage(self) -> Usage:
        """See `Generation.usage`."""
        usage = self._replay.usage
        return replace(usage, cached=usage.prompt // 2)


async def test_what_a_cache_knew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens of the prompt that came from a cache are told beside all of the prompt, in every account."""
    models = registry(echo=CachingBackend(ReplayOptions(echo=True)))
    async with accounting(tmp_path, monkeypatch, models=models) as (mesh, seen):
        turn = await mesh.client.chat("one two three four", profile="plain", timeout=TIMEOUT).result()
        usage = turn.finished.usage
        assert (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) == (4, 2, 4)
        await mesh.idle()
        assert [cost(line) for line in told(seen, "turn finished")] == [(4, 2, 4)]


async def test_a_turn_that_fails_costs_its_prompt_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that fails after some tokens has read the prompt: both are in the account."""
    async with accounting(tmp_path, monkeypatch) as (mesh, seen):
        with pytest.raises(shieldmesh.InternalError):
            await mesh.client.chat("one two three", profile="fails-1-bare", timeout=TIMEOUT).result()
        await mesh.idle()
        (line,) = told(seen, "turn failed")
        assert line["prompt_tokens"] > 0
        assert line["completion_tokens"] == 1


async def test_a_turn_that_runs_out_of_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an engine generated until its deadline is in the account."""
    async with accounting(tmp_path, monkeypatch) as (mesh, seen):
        prompt = "word " * 10_000
        with pytest.raises(shieldmesh.DeadlineExceededError):
            await mesh.client.chat(prompt, profile="paced-behind", timeout=1).result()
        await mesh.idle()
        (line,) = told(seen, "turn failed")
        assert line["completion_tokens"] > 0


async def test_a_turn_that_never_got_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn that was cancelled in the queue costs nothing."""
    async with accounting(tmp_path, monkeypatch) as (mesh, seen):
        first = mesh.client.chat("first", profile="narrow", timeout=TIMEOUT)
        await anext(first)
        places = mesh.model("narrow").admission
        await eventually(lambda: places.running == 1)
        async with mesh.client.chat("second", profile="narrow", timeout=TIMEOUT) as second:
            await anext(second)
            await eventually(lambda: places.waiting == 1)
        await eventually(lambda: places.waiting == 0)
        await first.aclose()
        await mesh.client.chat("third", profile="quick-bare", timeout=TIMEOUT).result()
        await mesh.idle()
        assert sorted(cost(line) for line in told(seen, "turn")) == [(0, 0, 0), (1, 0, 0), (1, 0, 1)]
