"""One scenario happens to one system that runs."""

import asyncio
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Final

from . import load, processes
from .figures import Figures, figures
from .load import Answers, Load
from .processes import Use
from .scenarios import Alone, Scenario
from .system import Running

_LEAD: Final = 0.5
"""Seconds for the clients to connect before the first turn is due."""
_WARM_UP: Final = 20
"""Turns."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What a scenario showed."""

    system: Figures
    alone: Figures | None
    """Of the engine alone, where the scenario asks for it."""


@contextmanager
def clients() -> Generator[ProcessPoolExecutor]:
    """Processes that make load. Spawned: grpc must not be forked."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        yield pool


async def observe(running: Running, scenario: Scenario, pool: ProcessPoolExecutor) -> Observation:
    """What the scenario shows of the system and, where it asks for that, of the engine alone."""
    limit = scenario.engine.tokens if scenario.engine.real else None
    options = scenario.engine.options if scenario.engine.real else {}
    through = replace(running.load, asked=scenario.name)
    alone = replace(running.alone, asked=scenario.name, max_tokens=limit, options=options)
    match scenario.alone:
        case Alone.NEVER:
            return Observation((await _play(running, scenario, [through], pool))[0], None)
        case Alone.BESIDE:
            system, engine = await _play(running, scenario, [through, alone], pool)
            return Observation(system, engine)
        case Alone.BEFORE:
            engine = (await _play(running, scenario, [alone], pool))[0]
            return Observation((await _play(running, scenario, [through], pool))[0], engine)


async def _play(
    running: Running, scenario: Scenario, loads: Sequence[Load], pool: ProcessPoolExecutor
) -> list[Figures]:
    await _warm_up(loads, pool, scenario)
    before = processes.look(running.pids)
    begin = time.monotonic() + _LEAD
    until = begin + scenario.seconds + _LEAD
    given = [
        replace(each, arrivals=scenario.arrivals(begin, seed), until=until) for seed, each in enumerate(loads, start=1)
    ]
    answers = asyncio.gather(*(_in_process(pool, each) for each in given))
    opened = await _look_at(running, begin + scenario.ramp + scenario.warm)
    ended = await _look_at(running, begin + scenario.seconds)
    return [figures(each, before, opened, ended) for each in await answers]


async def _look_at(running: Running, moment: float) -> Use:
    await asyncio.sleep(moment - time.monotonic())
    return processes.look(running.pids)


async def _warm_up(loads: Sequence[Load], pool: ProcessPoolExecutor, scenario: Scenario) -> None:
    """A few turns, so that code is loaded, shields are compiled and connections stand."""
    now = time.monotonic() + _LEAD
    count = scenario.streams if scenario.engine.real else _WARM_UP
    given = [replace(each, arrivals=[now + number * 0.03 for number in range(count)], until=now + 1) for each in loads]
    await asyncio.gather(*(_in_process(pool, each) for each in given))


async def _in_process(pool: ProcessPoolExecutor, given: Load) -> Answers:
    return await asyncio.get_running_loop().run_in_executor(pool, load.run, given)
