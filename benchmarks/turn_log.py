"""What the turn log costs: `python -m benchmarks.turn_log [--quick]`, in memory, on SQLite, on a Redis that it starts.

For 1 to 256 turns at once. First each turn appends as fast as the log lets it: events kept per second. Then each
appends one event in 20 ms, as a model of 50 tokens/s does, and somebody follows it: how long `append` takes, which is
all that the way to the client sees of the log, and how long until the reader has the event.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Final

from rich.console import Console
from rich.table import Table

from services.orchestrator.log.opening import open_log
from services.orchestrator.log.turn_log import Owner, TurnLog
from tests.redis_server import redis_server

TURNS: Final = (1, 16, 64, 256)
EVENTS: Final = 50_000
"""Of the fast run, over all turns."""
PACE: Final = 0.02
SECONDS: Final = 4.0
"""Of the paced run."""
EVENT: Final = b"x" * 60
OWNER: Final = Owner("", "benchmark")


async def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the events, half of the sizes")
    quick: bool = parser.parse_args().quick
    table = Table("log", "turns", "events/s", "append, µs p50", "p99", "to its reader, ms p50", "p99")
    with tempfile.TemporaryDirectory(prefix="sm-") as directory, redis_server() as server:
        places = {
            "memory": ["memory:"],
            "sqlite": [f"{directory}/turns.db"],
            "redis, read at the same replica": [server.url],
            "redis, read at another": [server.url, server.url],
        }
        for name, replicas in places.items():
            for turns in TURNS[:: 2 if quick else 1]:
                rate = await _fast(replicas[:1], turns, EVENTS // (10 if quick else 1))
                appends, arrivals = await _paced(replicas, turns, SECONDS / (4 if quick else 1))
                table.add_row(
                    *(name, str(turns), f"{rate:,.0f}"),
                    *(f"{_share(appends, share) * 1e6:.0f}" for share in (50, 99)),
                    *(f"{_share(arrivals, share) * 1e3:.2f}" for share in (50, 99)),
                )
    Console().print(table)


async def _fast(places: Sequence[str], turns: int, events: int) -> float:
    """Events per second, from the first append until the log has the last end."""
    async with _open(places) as (log, _):
        began = time.perf_counter()

        async def write(turn: str) -> None:
            log.begin(turn, OWNER)
            for sequence in range(1, events // turns + 1):
                await log.room()
                log.append(turn, sequence, EVENT)
                if sequence % 16 == 0:
                    await asyncio.sleep(0)
            log.seal(turn)

        names = _names(turns)
        await asyncio.gather(*map(write, names))
        for name in names:
            await log.find(name)  # which returns when the end is kept
        return events // turns * turns / (time.perf_counter() - began)


async def _paced(places: Sequence[str], turns: int, seconds: float) -> tuple[list[float], list[float]]:
    """Seconds that each append took, and until its reader had the event."""
    appends: list[float] = []
    arrivals: list[float] = []
    async with _open(places) as (log, other):
        at: dict[tuple[str, int], float] = {}

        async def write(turn: str, delay: float) -> None:
            await asyncio.sleep(delay)
            for sequence in range(1, round(seconds / PACE) + 1):
                at[turn, sequence] = began = time.perf_counter()
                await log.room()
                log.append(turn, sequence, EVENT)
                appends.append(time.perf_counter() - began)
                await asyncio.sleep(PACE)
            log.seal(turn)

        async def read(turn: str) -> None:
            sequence = 0
            async with aclosing(other.follow(turn, 0)) as events:
                async for _ in events:
                    sequence += 1
                    arrivals.append(time.perf_counter() - at[turn, sequence])

        async with asyncio.TaskGroup() as tasks:
            for number, name in enumerate(_names(turns)):
                log.begin(name, OWNER)
                await log.find(name)
                tasks.create_task(read(name))
                tasks.create_task(write(name, PACE * number / turns))
    return appends, arrivals


@asynccontextmanager
async def _open(places: Sequence[str]) -> AsyncGenerator[tuple[TurnLog, TurnLog]]:
    """The first of the replicas and the last, which may be the same."""
    async with AsyncExitStack() as stack:
        logs = [
            await stack.enter_async_context(
                open_log(place, retention=60.0, backlog=16_777_216, claim_window=60.0, lease=10.0)
            )
            for place in places
        ]
        yield logs[0], logs[-1]


def _names(turns: int) -> list[str]:
    began = time.monotonic_ns()
    return [f"{began}-{number}" for number in range(turns)]


def _share(values: list[float], percent: int) -> float:
    return sorted(values)[len(values) * percent // 100]


if __name__ == "__main__":
    asyncio.run(main())
