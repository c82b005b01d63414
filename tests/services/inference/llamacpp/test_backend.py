"""The real engine with the real model: streaming, usage, sharing, cancelling, errors."""

import asyncio
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path

import pytest

from services.inference.admission import Admission
from services.inference.backend import (
    Finish,
    FinishReason,
    Generation,
    GenerationRequest,
    Message,
    Output,
    Sampling,
    Step,
    Tool,
)
from services.inference.llamacpp.backend import LlamaBackend
from services.inference.llamacpp.options import LlamaOptions
from services.inference.registry import Registry, ServedModel
from shieldmesh.errors import InvalidArgumentError
from tests.services.inference.serving import TIMEOUT, ask, eventually, generating, serving

SLOTS = 2
DEFAULTS = Sampling()
ENDLESS = {"ignore_eos": True}


@pytest.fixture(scope="module")
def backend() -> Iterator[LlamaBackend]:
    """SmolLM2 with two slots and a small context, loaded once for this module."""
    opened = asyncio.run(LlamaBackend.open(LlamaOptions(context_window=256), SLOTS))
    yield opened
    asyncio.run(opened.close())


async def test_tokens_arrive_one_by_one_and_usage_is_the_engines(backend: LlamaBackend) -> None:
    """Several batches come, their counts add up to the engine's, and the engine's own counter moves by as much."""
    before = engine_counter(backend, "tokens_predicted_total"), backend.generated_tokens
    generation = backend.generate(asking("Count to ten.", Sampling(max_tokens=8, temperature=0)))
    batches = await play(generation)
    assert len(batches) > 3
    assert batches[-1][-1] == Finish(FinishReason.LENGTH)
    assert sum(step.token_count for step in outputs(batches)) == generation.usage.completion == 8
    assert generation.usage.prompt > 8
    after = engine_counter(backend, "tokens_predicted_total"), backend.generated_tokens
    assert (after[0] - before[0], after[1] - before[1]) == (8, 8)


async def test_a_repeated_prompt_is_taken_from_the_cache(backend: LlamaBackend) -> None:
    """The second time, the usage tells how much of the prompt was not computed again."""
    request = asking("Name one colour of the rainbow.", Sampling(max_tokens=1, temperature=0))
    await play(backend.generate(request))
    again = backend.generate(request)
    await play(again)
    assert 0 < again.usage.cached < again.usage.prompt


async def test_concurrent_turns_share_the_engine(backend: LlamaBackend) -> None:
    """Both are in the engine at once, and each gets an answer of its own length."""
    both = [backend.generate(asking(text, Sampling(max_tokens=6), ENDLESS)) for text in ("Hello", "Good day")]
    met = asyncio.Barrier(2)

    async def follow(generation: Generation) -> None:
        async with aclosing(generation.batches()) as batches:
            await anext(batches)
            await met.wait()
            async for _ in batches:
                pass

    async with asyncio.timeout(TIMEOUT), asyncio.TaskGroup() as group:
        for generation in both:
            group.create_task(follow(generation))
    assert [generation.usage.completion for generation in both] == [6, 6]


async def test_a_cancelled_call_ends_generation_in_the_engine(backend: LlamaBackend, tmp_path: Path) -> None:
    """When the client goes, the engine's own counters say that nothing runs, and no token is generated any more."""
    places = Admission("smol", max_running=SLOTS, max_waiting=0)
    models = Registry({"smol": ServedModel("smol", "llamacpp", backend, places)})
    async with serving(models, tmp_path) as stub:
        async with generating(stub, ask("smol", options=ENDLESS)) as events:
            async for event in events:
                if event.HasField("delta"):
                    break
        await eventually(lambda: not places.running and not engine_counter(backend, "requests_processing"))
    stopped = backend.generated_tokens, engine_counter(backend, "tokens_predicted_total")
    await play(backend.generate(asking("Hello", Sampling(max_tokens=2), ENDLESS)))
    assert backend.generated_tokens == stopped[0] + 2
    assert engine_counter(backend, "tokens_predicted_total") == stopped[1] + 2


async def test_the_engines_counter_and_the_accounts(backend: LlamaBackend) -> None:
    """Over turns that end or are given up at random, side by side, the engine counts what the accounts do.

    What it computed when it was told to stop, and threw away, is in its counter alone: none or one token, rarely two.
    """
    chance = random.Random(4)
    before = engine_counter(backend, "tokens_predicted_total"), backend.generated_tokens
    accounts: list[int] = []
    given_up = 0

    async def one(ending: str, events: int) -> None:
        nonlocal given_up
        generation = backend.generate(asking("Count to ten.", Sampling(max_tokens=8), ENDLESS))
        steps: list[Step] = []
        async with places, asyncio.timeout(TIMEOUT), aclosing(generation.batches()) as batches:
            async for batch in batches:
                steps += batch
                if len(steps) >= events and ending == "stop":
                    generation.stop()
                if len(steps) >= events and ending == "leave":
                    break
        assert sum(step.token_count for step in steps if isinstance(step, Output)) <= generation.usage.completion
        finished = bool(steps) and steps[-1] == Finish(FinishReason.LENGTH)
        assert generation.usage.completion == 8 or not finished
        given_up += not finished
        accounts.append(generation.usage.completion)

    places = asyncio.Semaphore(SLOTS)
    turns = [(chance.choice(["end", "stop", "leave"]), chance.randint(1, 7)) for _ in range(40)]
    await asyncio.gather(*(one(*turn) for turn in turns))
    await eventually(lambda: not engine_counter(backend, "requests_processing"))
    assert backend.generated_tokens - before[1] == sum(accounts)
    assert 10 < given_up < 40
    thrown_away = engine_counter(backend, "tokens_predicted_total") - before[0] - sum(accounts)
    assert 0 <= thrown_away <= given_up + 5


async def test_cancelling_while_the_prompt_is_read_stops_it(backend: LlamaBackend) -> None:
    """A generation that has no token yet leaves the engine, and its prompt is counted."""
    generation = backend.generate(asking("word " * 200, Sampling(max_tokens=400), ENDLESS))
    task = asyncio.create_task(play(generation))
    await eventually(lambda: generation.usage.prompt > 0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert backend.running == 0
    assert generation.usage.completion == 0
    assert generation.usage.prompt > 200


async def test_a_generation_that_is_closed_before_it_runs_costs_nothing(backend: LlamaBackend) -> None:
    """Closing at once leaves no thread and no tokens behind."""
    generation = backend.generate(asking("Hello", Sampling(max_tokens=400), ENDLESS))
    task = asyncio.create_task(play(generation))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert generation.usage.completion == 0


@pytest.mark.parametrize("limit", [3, 4, 5, 6, 7, 8])
async def test_text_is_never_cut_within_a_code_point(backend: LlamaBackend, limit: int) -> None:
    """Emoji are several tokens each: wherever the limit falls, only whole characters come, and the counts hold."""
    request = asking("Repeat exactly: 🦜👩‍👩‍👧‍👦漢字", Sampling(max_tokens=limit, temperature=0))
    generation = backend.generate(request)
    steps = outputs(await play(generation))
    assert all("�" not in step.text for step in steps)
    assert sum(step.token_count for step in steps) <= generation.usage.completion <= limit


async def test_a_prompt_beyond_the_context_is_refused(backend: LlamaBackend) -> None:
    """The caller hears CONTEXT_TOO_LONG, and the engine serves the next."""
    with pytest.raises(InvalidArgumentError) as caught:
        await play(backend.generate(asking("word " * 300)))
    assert (caught.value.reason, caught.value.field) == ("CONTEXT_TOO_LONG", "messages")
    assert await play(backend.generate(asking("Hello", Sampling(max_tokens=1))))


async def test_an_answer_that_fills_the_context_ends_with_length(backend: LlamaBackend) -> None:
    """The context window ends a generation that nothing else ends."""
    generation = backend.generate(asking("word " * 205, options=ENDLESS))
    batches = await play(generation)
    assert batches[-1][-1] == Finish(FinishReason.LENGTH)
    assert generation.usage.total in {backend.context_window, backend.context_window + 1}


async def test_a_schema_constrains_the_answer(backend: LlamaBackend) -> None:
    """The answer is JSON of the schema's shape; a schema that is none is refused with its field."""
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
    request = asking("Give me JSON.", Sampling(max_tokens=60, temperature=0), schema=json.dumps(schema))
    answer = "".join(step.text for step in outputs(await play(backend.generate(request))))
    assert json.loads(answer)["a"] in {1, 2}
    with pytest.raises(InvalidArgumentError) as caught:
        await play(backend.generate(asking("Hello", schema='{"type": "nonsense"}')))
    assert caught.value.field == "response_format.json_schema"


def test_tools_are_refused_when_the_model_would_not_see_them(backend: LlamaBackend) -> None:
    """SmolLM2's template knows no tools: dropping them silently would be worse than saying so."""
    request = GenerationRequest((Message("user", "weather?"),), tools=(Tool("weather", "", ""),))
    with pytest.raises(InvalidArgumentError) as caught:
        backend.generate(request)
    assert caught.value.field == "tools"


async def test_greedy_sampling_and_stop_texts_reach_the_engine(backend: LlamaBackend) -> None:
    """Temperature 0 repeats itself, and the same answer ends before a stop text taken from it."""
    free = [await answer(backend, Sampling(max_tokens=12, temperature=0)) for _ in range(2)]
    word = free[0].split()[1]
    stopped = await answer(backend, Sampling(max_tokens=12, temperature=0, stop=(word,)))
    assert free[0] == free[1]
    assert stopped == free[0].partition(word)[0]


async def answer(backend: LlamaBackend, sampling: Sampling) -> str:
    batches = await play(backend.generate(asking("What is the capital of France?", sampling)))
    return "".join(step.text for step in outputs(batches))


def asking(
    text: str, sampling: Sampling = DEFAULTS, options: Mapping[str, object] | None = None, schema: str | None = None
) -> GenerationRequest:
    return GenerationRequest((Message("user", text),), sampling, json_schema=schema, options=options or {})


async def play(generation: Generation) -> list[Sequence[Step]]:
    async with asyncio.timeout(TIMEOUT), aclosing(generation.batches()) as batches:
        return [batch async for batch in batches]


def outputs(batches: Sequence[Sequence[Step]]) -> list[Output]:
    return [step for batch in batches for step in batch if isinstance(step, Output)]


def engine_counter(backend: LlamaBackend, name: str) -> int:
    """One of llama.cpp's own counters."""
    lines = backend.engine.handle_metrics().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"llamacpp:{name} "))
