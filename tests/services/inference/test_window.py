"""The window of a generation: how far the engine gets when its caller does not say that it has taken anything."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.inference.remote.translation import to_opening
from services.inference.translation import from_request
from shieldmesh.errors import InvalidArgumentError
from shieldmesh.v1 import generation_pb2, inference_pb2
from shieldmesh.window import BYTES, DELTAS, TOKENS, Window, delta_size

from .serving import Stub, ask, configuration, generating, serving

WORDS = 2_000
MODEL: dict[str, Any] = {"name": "words", "options": {"pieces": ["four"] * WORDS}}
SLOW: dict[str, Any] = {"name": "slow", "options": {"text": "a b", "pace": 0.001}}
STOP = inference_pb2.GenerateRequest(stop=inference_pb2.GenerateStop())


def opening(**window: int) -> inference_pb2.GenerateOpen:
    return ask("words", window=inference_pb2.GenerateWindow(**window))


def credit(**taken: int) -> inference_pb2.GenerateRequest:
    return inference_pb2.GenerateRequest(credit=inference_pb2.GenerateCredit(**taken))


async def give_credit(stub: Stub) -> None:
    async with generating(stub, ask("slow")) as call:
        await call.write(credit(tokens=1))
        async for _ in call:
            pass


async def words(events: AsyncIterator[inference_pb2.GenerateEvent], count: int) -> None:
    for _ in range(count):
        assert (await anext(events)).delta.text == "four"


@pytest.mark.parametrize(
    ("window", "first", "second"), [({"tokens": 8}, 8, 4), ({"bytes": 10}, 3, 4), ({"deltas": 8}, 8, 4)]
)
async def test_an_engine_is_a_window_ahead_and_no_further(
    tmp_path: Path, window: dict[str, int], first: int, second: int
) -> None:
    """It stands still a window ahead of what was taken, goes on as far as a credit says, and can be stopped there."""
    async with serving(configuration(MODEL), tmp_path) as stub, generating(stub, opening(**window)) as call:
        events = aiter(call)
        started = (await anext(events)).started
        assert started.window == inference_pb2.GenerateWindow(**window)
        await words(events, first)
        await call.write(credit(tokens=4, bytes=16, deltas=4))
        await words(events, second)
        await call.write(STOP)
        rest = [event async for event in events]
    # Had it been any further, this would be in its account.
    assert [event.WhichOneof("event") for event in rest] == ["finished"]
    assert rest[0].finished.usage.completion_tokens == first + second
    assert rest[0].finished.reason == generation_pb2.FINISH_REASON_CANCELLED


async def test_without_a_window_nothing_is_confirmed_and_credit_is_refused(tmp_path: Path) -> None:
    """Callers that know of no windows are served as ever."""
    async with serving(configuration(MODEL, SLOW), tmp_path) as stub:
        async with generating(stub, ask("words")) as call:
            events = [event async for event in call]
        assert not events[0].started.HasField("window")
        assert events[-1].finished.usage.completion_tokens == WORDS
        with pytest.raises(InvalidArgumentError):
            await give_credit(stub)


async def test_what_is_generated_behind_a_window_of_deltas_makes_up_one(tmp_path: Path) -> None:
    """A reader that is behind gets as much in fewer messages; the last of the window is the one that waits."""
    model = {"name": "words", "options": {"pieces": ["four"] * 100, "pace": 10_000}}
    async with serving(configuration(model), tmp_path) as stub, generating(stub, opening(deltas=2)) as call:
        events = aiter(call)
        assert (await anext(events)).HasField("started")
        before = [await anext(events), await anext(events)]
        await asyncio.sleep(0.05)  # the time of 500 tokens: all of them are due
        await call.write(credit(deltas=2))
        behind = await anext(events)
    assert sum(event.delta.token_count for event in [*before, behind]) == 100


@pytest.mark.parametrize(
    "limit",
    [inference_pb2.GenerateWindow(tokens=10, bytes=1_000), inference_pb2.GenerateWindow(deltas=10, bytes=1_000)],
    ids=["tokens", "deltas"],
)
def test_a_caller_says_once_for_half_a_window_what_it_has_taken(limit: inference_pb2.GenerateWindow) -> None:
    """So a token costs hardly a message, and a producer that waits is never left waiting."""
    reader, producer = Window(limit), Window(limit)
    said = 0
    for _ in range(100):
        assert not producer.used_up
        for window in (producer, reader):
            window.add(generation_pb2.Delta(text="ä", token_count=1))
        if reader.half_used:
            said += 1
            producer.grant(reader.credit())
    assert said == 20
    call = generation_pb2.ToolCallDelta(arguments="{}")
    assert delta_size(generation_pb2.Delta(text="ä", reasoning="b", tool_call=call)) == 5


def test_a_model_of_another_service_is_asked_with_a_window() -> None:
    """Each hop has its own."""
    assert to_opening("words", from_request(opening())).window == inference_pb2.GenerateWindow(
        tokens=TOKENS, bytes=BYTES, deltas=DELTAS
    )
