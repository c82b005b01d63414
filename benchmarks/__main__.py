"""What guarding a stream costs, beside peers: `python -m benchmarks`, which is `make bench`, or `--quick`.

Writes benchmarks/results/full.json and makes docs/performance.md and docs/scaling.md from it; with `--quick`
benchmarks/results/quick.json and a page beside it.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from . import measure, page, plan, processes, results, scenarios
from .plan import Job
from .results import Results
from .system import System

LIMIT: Final = 800.0
"""Seconds after which no job is measured once more."""


def main(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="The most telling part, in less than 2 minutes.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="A system, by name; all when none is named.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the results here, and make no page.")] = None,
) -> None:
    """Measures the mesh and its peers."""
    jobs = plan.quick() if quick else plan.full()
    known = {job.system.name for job in jobs}
    if unknown := set(only or ()) - known:
        raise typer.BadParameter(f"there is no system {unknown.pop()}: expected one of {', '.join(sorted(known))}")
    path = output or results.DIRECTORY / ("quick.json" if quick else "full.json")
    asyncio.run(_run([job for job in jobs if not only or job.system.name in only], path, quick=quick))
    if output is None:
        page.make(path)


async def _run(jobs: list[Job], path: Path, *, quick: bool) -> None:
    """Measures, and writes what there is after each job: a run that is broken off leaves that."""
    began = time.monotonic()
    command = "make bench-quick" if quick else "make bench"
    found = Results(command, datetime.now(UTC).isoformat(timespec="seconds"), results.this_machine(), await _idle())
    for job in jobs:
        found.titles[job.system.name] = job.system.title
        found.settings[job.system.name] = job.system.settings
        found.scenarios |= {name: scenarios.ALL[name].meaning for name in job.scenarios}
    with measure.clients() as pool:
        for number in range(max(len(job.rounds) for job in jobs)):
            for job in jobs:
                if number < len(job.rounds) and (not number or time.monotonic() - began < LIMIT):
                    await _measure(job.system, job.rounds[number], pool, found)
                    found.seconds = time.monotonic() - began
                    found.write(path)
    _say(f"{path} after {found.seconds:.0f} s")


async def _measure(system: System, wanted: Sequence[str], pool: ProcessPoolExecutor, found: Results) -> None:
    found.speeds.append(results.interpreter())
    try:
        async with system.start({name: scenarios.ALL[name].engine for name in wanted}) as running:
            for name in wanted:
                seen = await measure.observe(running, scenarios.ALL[name], pool)
                found.seen.setdefault(system.name, {}).setdefault(name, []).append(seen)
                _say(f"{system.title}, {name}: {_brief(seen)}")
    except Exception as error:  # noqa: BLE001  # whatever a peer does, the others are measured
        found.failures[system.name] = f"{type(error).__name__}: {error}"
        _say(f"{system.title}: {found.failures[system.name]}")


async def _idle() -> float:
    """Processors that the machine keeps busy with other things."""
    before = processes.look({})
    await asyncio.sleep(1)
    after = processes.look({})
    return (after.busy - before.busy) / (after.at - before.at)


def _brief(seen: measure.Observation) -> str:
    figures = seen.system
    failed = f", {figures.failed} failed: {'; '.join(figures.errors)}" if figures.failed else ""
    return f"{figures.total_cpu_per_token * 1e6:.0f} µs CPU/token, {figures.tokens_per_second:,.0f} tokens/s{failed}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    typer.run(main)
