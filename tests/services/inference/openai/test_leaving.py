"""Nobody wants the rest: the server hears of it, in every state."""

import asyncio
from contextlib import aclosing

import pytest

from services.inference.backend import (
    Finish,
    Step,
)
from services.inference.openai.backend import OpenAIEndpoint
from shieldmesh.openai.answer import Answer
from shieldmesh.openai.body import server_request
from shieldmesh.openai.chunks import ChunkReader
from tests.services.inference.serving import TIMEOUT, eventually

from .playing import REQUEST, asking, play_all
from .upstream import (
    WHOLE,
    Play,
    answer,
    options,
    refused,
    said,
    silent,
    stalled,
    upstream,
)

whole = answer(*WHOLE)


@pytest.mark.parametrize("play", [silent, stalled(), stalled(said("one"))])
async def test_cancelling_closes_the_connection(play: Play) -> None:
    """Wherever the server is in its work, it sees that nobody wants the rest."""
    async with upstream(play) as server:
        task = asyncio.create_task(play_all(asking(server)))
        await eventually(lambda: len(server.heard) == 1)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await eventually(lambda: server.open == 0)


async def test_a_reader_that_leaves_closes_the_connection() -> None:
    """Also between two reads, and not only when the garbage collector comes round to it."""
    kept: list[Answer] = []

    class Keeping(OpenAIEndpoint):
        def answer(self, reader: ChunkReader) -> Answer:
            kept.append(super().answer(reader))
            return kept[-1]

    async with upstream(stalled(said("one"))) as server:
        generation = Keeping(server.url, options(server)).attempt(server_request(REQUEST, options(server)), None)
        async with aclosing(generation.batches()) as batches:
            assert await anext(batches)
        await eventually(lambda: server.open == 0)
    assert len(kept) == 1


async def test_cancelling_ends_the_pause_before_another_attempt() -> None:
    """Nothing is sent any more."""
    async with upstream(refused(429, retry_after="20")) as server:
        task = asyncio.create_task(play_all(asking(server)))
        await eventually(lambda: len(server.heard) == 1)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


@pytest.mark.parametrize("play", [silent, stalled(), stalled(said("one")), refused(429, retry_after="20")])
async def test_stop_ends_it_where_it_is(play: Play) -> None:
    """The batches just end, the connection closes, and what was seen is the usage."""
    async with upstream(play) as server:
        generation = asking(server)
        seen: list[Step] = []

        async def follow() -> None:
            async with aclosing(generation.batches()) as batches:
                async for batch in batches:
                    seen.extend(batch)

        task = asyncio.create_task(follow())
        await eventually(lambda: len(server.heard) == 1)
        generation.stop()
        async with asyncio.timeout(TIMEOUT):
            await task
        assert generation.usage.completion == len(seen)
        assert not any(isinstance(step, Finish) for step in seen)


async def test_stop_before_it_runs_asks_nobody() -> None:
    """A generation that is stopped first sends nothing."""
    async with upstream(whole) as server:
        generation = asking(server)
        generation.stop()
        async with aclosing(generation.batches()) as batches:
            assert [batch async for batch in batches] == []
        assert server.heard == []
