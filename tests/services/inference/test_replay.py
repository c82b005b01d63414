"""Replay plays scripts as an engine would."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

import pytest

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
    Usage,
)
from services.inference.replay import ReplayBackend, ReplayOptions
from shieldmesh.errors import InternalError, InvalidArgumentError

QUESTION = (Message("system", "be brief"), Message("user", "one two  three"), Message("assistant", "what?"))


async def test_echo_streams_the_last_user_message_back() -> None:
    """The echo is exact, token by token, and both sides are counted with the same cut."""
    generation = ReplayBackend(ReplayOptions(echo=True)).generate(GenerationRequest(QUESTION))
    batches = await play(generation)
    assert [[step.text for step in batch if isinstance(step, Output)] for batch in batches] == [
        ["one"],
        [" two"],
        ["  three"],
        [],
    ]
    assert batches[-1] == [Finish(FinishReason.STOP)]
    assert generation.usage == Usage(prompt=6, completion=3)


async def test_a_request_overrides_the_models_options() -> None:
    """A source of the request takes the place of the model's; everything else stays."""
    backend = ReplayBackend(ReplayOptions(echo=True, cut="characters"))
    changed = backend.generate(GenerationRequest(QUESTION, options={"text": "hi"}))
    given = backend.generate(GenerationRequest(QUESTION, options={"pieces": ["x", "yz"]}))
    assert texts(await play(changed)) == ["h", "i"]
    assert texts(await play(given)) == ["x", "yz"]


async def test_a_script_is_cut_as_each_request_says() -> None:
    """What one request changes about a shared script concerns no other."""
    backend = ReplayBackend(ReplayOptions(text="one two"))
    asked: list[dict[str, object]] = [{}, {"cut": "characters"}, {"text": "three"}, {}]
    played = [texts(await play(backend.generate(GenerationRequest(QUESTION, options=options)))) for options in asked]
    assert played == [["one", " two"], list("one two"), ["three"], ["one", " two"]]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"speed": 3}, "options.speed"),
        ({"pace": -1}, "options.pace"),
        ({"cut": "sideways"}, "options.cut"),
        ({"text": "a", "echo": True}, "options"),
    ],
)
def test_wrong_options_are_refused_with_their_name(options: dict[str, object], field: str) -> None:
    """Unknown names, values out of range and two sources at once each name the field."""
    backend = ReplayBackend(ReplayOptions(echo=True))
    with pytest.raises(InvalidArgumentError) as caught:
        backend.generate(GenerationRequest(QUESTION, options=options))
    assert caught.value.field == field


async def test_limits_of_the_request_hold() -> None:
    """max_tokens ends with LENGTH, a stop text with STOP before it."""
    backend = ReplayBackend(ReplayOptions(text="a b c d"))
    short = await play(backend.generate(GenerationRequest(QUESTION, Sampling(max_tokens=2))))
    stopped = await play(backend.generate(GenerationRequest(QUESTION, Sampling(stop=("c",)))))
    assert (texts(short), short[-1]) == (["a", " b"], [Finish(FinishReason.LENGTH)])
    assert (texts(stopped), stopped[-1]) == (["a", " b", " "], [Finish(FinishReason.STOP)])


async def test_a_scripted_failure_comes_after_its_tokens() -> None:
    """The tokens before the failure arrive and are counted."""
    backend = ReplayBackend(ReplayOptions(text="a b c", fail_after=2))
    generation = backend.generate(GenerationRequest(QUESTION))
    seen: list[str] = []
    async with aclosing(generation.batches()) as batches:
        seen += texts([await anext(batches), await anext(batches)])
        with pytest.raises(InternalError) as caught:
            await anext(batches)
    assert (seen, caught.value.reason) == (["a", " b"], "ENGINE_FAILED")
    assert generation.usage.completion == backend.generated_tokens == 2


async def test_a_late_reader_gets_what_is_due_at_once_but_no_more_than_the_window() -> None:
    """At a pace, the tokens of the time that a reader was away come together; the others still come, in order."""
    backend = ReplayBackend(ReplayOptions(text="x" * 100, cut="characters", pace=100_000, ahead=16))
    sizes: list[int] = []
    async with aclosing(backend.generate(GenerationRequest(QUESTION)).batches()) as batches:
        async for batch in batches:
            sizes.append(len(texts([batch])))
            await asyncio.sleep(0.002)  # 200 tokens' worth
    assert max(sizes) == 16
    assert sum(sizes) == 100


async def test_leaving_early_stops_the_count() -> None:
    """A generation that is closed has cost what was sent, and no more."""
    backend = ReplayBackend(ReplayOptions(text="a b c d e"))
    generation = backend.generate(GenerationRequest(QUESTION))
    async with aclosing(generation.batches()) as batches:
        await anext(batches)
        await anext(batches)
    assert generation.usage.completion == backend.generated_tokens == 2


async def play(generation: Generation) -> list[Sequence[Step]]:
    async with aclosing(generation.batches()) as batches:
        return [batch async for batch in batches]


def texts(batches: Sequence[Sequence[Step]]) -> list[str]:
    return [step.text for batch in batches for step in batch if isinstance(step, Output)]


CALLING = ReplayOptions.model_validate(
    {"text": "I look.", "tool_calls": [{"name": "look", "arguments": '{"at": 1}'}, {"name": "wait"}]}
)


async def test_a_script_can_end_in_tool_calls() -> None:
    """Each call begins with its id and name, its arguments come in tokens, and the answer ends for them."""
    request = GenerationRequest(QUESTION, tools=(Tool("look", "", ""),))
    generation = ReplayBackend(CALLING).generate(request)
    steps = [step for batch in await play(generation) for step in batch]
    fragments = [step.tool for step in steps if isinstance(step, Output) and step.tool]
    assert [(each.index, each.id, each.name) for each in fragments if each.id] == [
        (0, "call_0", "look"),
        (1, "call_1", "wait"),
    ]
    assert "".join(each.arguments for each in fragments if each.index == 0) == '{"at": 1}'
    assert "".join(step.text for step in steps if isinstance(step, Output)) == "I look."
    assert steps[-1] == Finish(FinishReason.TOOL_CALLS)
    assert generation.usage.completion == len(steps) - 1


async def test_a_script_calls_no_tool_for_a_tools_result() -> None:
    """Whoever brings a result gets the text alone."""
    messages = (*QUESTION, Message("tool", "found", tool_call_id="call_0"))
    batches = await play(ReplayBackend(CALLING).generate(GenerationRequest(messages)))
    assert "".join(texts(batches)) == "I look."
    assert batches[-1] == [Finish(FinishReason.STOP)]
