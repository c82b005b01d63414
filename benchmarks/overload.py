"""What a mesh does with ten times the load that it has places for: `python -m benchmarks.overload`.

Over a real mesh of four processes: turns arrive when they are due, whether or not earlier ones were answered; first a
quarter of what the places can serve, then ten times as much as they can, then a quarter again. Promise 14 says:
refusals come within 50 ms (median), admitted turns keep their time to the first token within twice the calm one
(median), memory is bounded, and the next turns after the load are admitted at once.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from multiprocessing import get_context
from statistics import median
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from . import load, processes
from .engine import Engine
from .load import evenly
from .system import Running
from .testbed import Bed, running
from .turns import Turn

PLACES: Final = 16
QUEUE: Final = 0
ENGINE: Final = Engine(tokens=40, pace=20.0)
CAPACITY: Final = PLACES * ENGINE.pace / ENGINE.tokens
"""Turns a second that the places can serve."""
CALM: Final = CAPACITY / 4
OFFERED: Final = CAPACITY * 10
_NAME: Final = "paced"
_LEAD: Final = 3.0
"""Seconds for the client to start and connect before the first turn is due."""
_LINGER: Final = 5.0
"""Seconds for the last turns to end."""


class Place(StrEnum):
    """Which service has few places."""

    GATEWAY = "gateway"
    ORCHESTRATOR = "orchestrator"


@dataclass(frozen=True, slots=True)
class Stage:
    """A time in which turns arrive at one rate."""

    name: str
    begin: float
    seconds: float
    rate: float

    @property
    def arrivals(self) -> list[float]:
        """When turns are due."""
        return evenly(round(self.rate * self.seconds), begin=self.begin, seconds=self.seconds)

    def holds(self, moment: float) -> bool:
        """Whether a moment lies in it."""
        return self.begin <= moment < self.begin + self.seconds


def main(
    *,
    at: Annotated[Place, typer.Option(help="The service that has few places.")] = Place.GATEWAY,
    seconds: Annotated[float, typer.Option(help="How long the load lasts.")] = 30.0,
    quick: Annotated[bool, typer.Option("--quick", help="A load of 5 seconds.")] = False,
) -> None:
    """Measures and prints a table."""
    asyncio.run(_measure(at, 5.0 if quick else seconds))


async def _measure(at: Place, seconds: float) -> None:
    prefix = f"SHIELDMESH_{at.upper()}_"
    limits = {f"{prefix}MAX_RUNNING": str(PLACES), f"{prefix}MAX_WAITING": str(QUEUE)}
    # Spawned: grpc must not be forked.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as client:
        async with running(Bed(environment=limits), {_NAME: ENGINE}) as bed:
            begin = time.monotonic() + _LEAD
            calm = Stage("calm", begin, max(5.0, seconds / 3), CALM)
            loaded = Stage("overload", begin + calm.seconds, seconds, OFFERED)
            after = Stage("after it", loaded.begin + seconds, calm.seconds, CALM)
            stages = (calm, loaded, after)
            due = [moment for stage in stages for moment in stage.arrivals]
            until = after.begin + after.seconds + _LINGER
            asked = replace(bed.load, asked=_NAME, arrivals=due, until=until)
            answers = asyncio.get_running_loop().run_in_executor(client, load.run, asked)
            memory = await _memory(bed, stages)
            _print(at, stages, (await answers).turns, memory)


async def _memory(bed: Running, stages: Sequence[Stage]) -> list[int]:
    """The most bytes that all services had in each stage, looked at every half second."""
    most = [0] * len(stages)
    for number, stage in enumerate(stages):
        while time.monotonic() < stage.begin + stage.seconds:
            most[number] = max(most[number], sum(processes.look(bed.pids).resident.values()))
            await asyncio.sleep(0.5)
    return most


def _print(at: Place, stages: Sequence[Stage], turns: Sequence[Turn], memory: Sequence[int]) -> None:
    table = Table("stage", "turns/s", "admitted", "refused", "failed", "refusal, median ms", "TTFT, median ms", "MiB")
    for stage, most in zip(stages, memory, strict=True):
        ours = [turn for turn in turns if stage.holds(turn.due)]
        refused = [turn for turn in ours if turn.error == "RESOURCE_EXHAUSTED"]
        table.add_row(
            stage.name,
            f"{stage.rate:.0f}",
            str(sum(turn.finished is not None for turn in ours)),
            str(len(refused)),
            str(sum(turn.finished is None for turn in ours) - len(refused)),
            _milliseconds(turn.failed - turn.due for turn in refused if turn.failed is not None),
            _milliseconds(turn.times[0] - turn.due for turn in ours if turn.times and turn.finished is not None),
            f"{most / 2**20:.0f}",
        )
    console = Console()
    console.print(table)
    after = stages[-1]
    late = [turn.due for turn in turns if turn.error and after.holds(turn.due)]
    recovered = max(late, default=after.begin) - after.begin
    console.print(f"{PLACES} places and {QUEUE} in the queue of the {at}; recovered {recovered:.2f} s after the load")


def _milliseconds(seconds: Iterable[float]) -> str:
    values = list(seconds)
    return f"{median(values) * 1e3:.1f}" if values else ""


if __name__ == "__main__":
    typer.run(main)
