"""The scripted server that all systems share, asked by the load's own client."""

import asyncio
import time

from benchmarks import load, measure, upstream
from benchmarks.engine import Engine
from benchmarks.load import Load


async def test_every_token_of_a_script_comes_and_is_counted() -> None:
    """Two turns over one connection, one after the other: the same tokens each."""
    with measure.clients() as pool:
        async with upstream.serving({"script": Engine(40)}) as address:
            due = time.monotonic()
            given = Load(address, "openai", "script", arrivals=[due, due + 0.3], until=due + 20)
            answers = await asyncio.get_running_loop().run_in_executor(pool, load.run, given)
    assert [sum(turn.tokens) for turn in answers.turns] == [40, 40]
    assert all(turn.finished is not None and not turn.error for turn in answers.turns)
