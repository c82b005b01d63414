"""Servers that say nothing: each limit ends the wait for them. The time is the test's."""

import asyncio

import pytest

from services.inference.backend import FinishReason, Usage
from shieldmesh import http
from tests.promises import clock

from .playing import REQUEST, failure, opened, play_all
from .upstream import STOPPED, Play, event, said, silent, stalled, upstream

LIMITS = {"connect": 1, "first_token": 5, "between_tokens": 3}


@pytest.mark.parametrize(
    ("play", "texts", "limit"),
    [
        (silent, [], 5),
        (stalled(), [], 5),
        (stalled(b": keep-alive\n\n"), [], 5),
        (stalled(event({"choices": [{"index": 0, "delta": {"role": "assistant"}}]})), [], 5),
        (stalled(said("one")), ["one"], 3),
        (stalled(said("one"), b": keep-alive\n\n"), ["one"], 3),
    ],
)
def test_a_server_that_stalls_is_given_up_at_its_limit(play: Play, texts: list[str], limit: float) -> None:
    """UPSTREAM_TIMEOUT when the limit passes, not earlier and not later, and no second attempt."""

    async def main(loop: clock.SteppedLoop) -> None:
        async with upstream(play) as server:
            generation = opened(server, timeouts=LIMITS).generate(REQUEST)
            task = asyncio.create_task(failure(generation))
            await clock.until(lambda: bool(server.heard) and generation.usage.completion == len(texts))
            begun = loop.time()
            loop.ring_next()
            await clock.until(task.done)
            assert loop.time() - begun == pytest.approx(limit)
            seen, error = await task
            assert (seen, error.reason) == (texts, "UPSTREAM_TIMEOUT")
            assert len(server.heard) == 1
            await http.close()

    clock.run(main)


def test_an_answer_that_is_whole_needs_no_good_end() -> None:
    """After the finish reason a stall costs time, and nothing else."""

    async def main(loop: clock.SteppedLoop) -> None:
        async with upstream(stalled(said("one") + event(STOPPED))) as server:
            generation = opened(server, timeouts=LIMITS).generate(REQUEST)
            task = asyncio.create_task(play_all(generation))
            await clock.until(lambda: generation.usage.completion == 1)
            loop.ring_next()
            await clock.until(task.done)
            assert await task == ("one", FinishReason.STOP)
            assert generation.usage == Usage(completion=1)
            await http.close()

    clock.run(main)
