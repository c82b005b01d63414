"""What guarding a stream costs: `python -m benchmarks.mesh`, or `--quick`; `--help` lists what can be varied.

Each run starts a mesh of its own, and lets turns arrive from a process of its own. With `--against DIR` the mesh of
another checkout is measured in turn with this one's: on a busy machine only their ratio means something.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from . import load, processes, scenarios
from .figures import Figures, figures, middle, spread_of
from .load import Load, Turn
from .scenarios import Scenario
from .testbed import ROOT, Testbed, running

_LEAD: Final = 0.5
"""Seconds for the clients to connect before the first turn is due."""


class Shields(StrEnum):
    """Which profiles are measured."""

    ON = "on"
    OFF = "off"
    BOTH = "both"

    @property
    def guarded(self) -> tuple[bool, ...]:
        """With shields, without, or one after the other."""
        return {Shields.ON: (True,), Shields.OFF: (False,), Shields.BOTH: (True, False)}[self]


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run a scenario."""

    scenario: Scenario
    root: Path
    trace_ratio: float
    guarded: bool

    @property
    def title(self) -> str:
        """What tells it from the others."""
        shields = "" if self.guarded else ", no shields"
        tracing = "" if self.trace_ratio == 1 else f", traced {self.trace_ratio:g}"
        return f"{self.scenario.name}{shields}{tracing}"


@dataclass(frozen=True, slots=True)
class Result:
    """What a variant showed in the round in the middle."""

    variant: Variant
    figures: Figures
    engine: Figures | None
    """Of the engine alone."""
    spread: float
    """How far the costs of the rounds lie apart, as a share."""


def main(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Halve the windows.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="A scenario; all when none is named.")] = None,
    trace: Annotated[list[float] | None, typer.Option(help="A share of traces to record; 1 by default.")] = None,
    shields: Annotated[Shields, typer.Option(help="Shields on both ways, or none.")] = Shields.ON,
    against: Annotated[list[Path] | None, typer.Option(help="Another checkout to measure in turn.")] = None,
    rounds: Annotated[int, typer.Option(help="How often each is run; the one in the middle is shown.")] = 1,
    output: Annotated[Path | None, typer.Option(help="Write the figures here, as JSON.")] = None,
) -> None:
    """Measures the mesh and prints a table."""
    known = {each.name: each for each in scenarios.ALL}
    if unknown := set(only or ()) - known.keys():
        raise typer.BadParameter(f"there is no scenario {unknown.pop()}: expected one of {', '.join(known)}")
    chosen = [known[name] for name in only or known]
    variants = [
        Variant(each.quick() if quick else each, root.resolve(), ratio, guarded)
        for each in chosen
        for guarded in shields.guarded
        for ratio in trace or [1.0]
        for root in [*(against or []), ROOT]
    ]
    results = asyncio.run(_measure(variants, rounds))
    _print(results)
    if output is not None:
        output.write_text(json.dumps([asdict(result) for result in results], default=str, indent=1))


async def _measure(variants: Sequence[Variant], rounds: int) -> list[Result]:
    seen: dict[Variant, list[tuple[Figures, Figures | None]]] = {variant: [] for variant in variants}
    # Spawned: grpc must not be forked.
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as clients:
        for _ in range(rounds):
            for variant in variants:
                async with running(variant.scenario.engine, root=variant.root, trace_ratio=variant.trace_ratio) as bed:
                    seen[variant].append(await _observe(bed, variant, clients))
    results: list[Result] = []
    for variant, runs in seen.items():
        costs = [mesh for mesh, _ in runs]
        shown = middle(costs)
        alone = next(engine for mesh, engine in runs if mesh is shown)
        results.append(Result(variant, shown, alone, spread_of(costs)))
    return results


async def _observe(bed: Testbed, variant: Variant, clients: ProcessPoolExecutor) -> tuple[Figures, Figures | None]:
    """The figures of the mesh and of the engine alone."""
    scenario = variant.scenario
    profile = "guarded" if variant.guarded else "bare"
    chat = Load(bed.gateway, "chat", profile, (), 0.0)
    engine = Load(bed.inference, "engine", "engine", (), 0.0)
    loads = [chat, engine] if scenario.alone else [chat]
    await _warm_up(loads, clients)
    before = processes.look(bed.pids)
    begin = time.monotonic() + _LEAD
    until = begin + scenario.seconds + _LEAD
    given = [
        replace(each, arrivals=scenario.arrivals(begin, seed), until=until) for seed, each in enumerate(loads, start=1)
    ]
    answers = asyncio.gather(*(_in_process(clients, each) for each in given))
    await asyncio.sleep(begin + scenario.ramp + scenario.warm - time.monotonic())
    opened = processes.look(bed.pids)
    await asyncio.sleep(begin + scenario.seconds - time.monotonic())
    ended = processes.look(bed.pids)
    mesh, *rest = [figures(turns, before, opened, ended) for turns in await answers]
    return mesh, rest[0] if rest else None


async def _warm_up(loads: Sequence[Load], clients: ProcessPoolExecutor) -> None:
    """A few turns, so that code is loaded, shields are compiled and connections stand."""
    now = time.monotonic() + 2 * _LEAD
    given = [replace(each, arrivals=[now + number * 0.05 for number in range(20)], until=now + 2) for each in loads]
    await asyncio.gather(*(_in_process(clients, each) for each in given))


async def _in_process(clients: ProcessPoolExecutor, given: Load) -> list[Turn]:
    return await asyncio.get_running_loop().run_in_executor(clients, load.run, given)


def _print(results: Sequence[Result]) -> None:
    roots = {result.variant.root for result in results}
    table = Table(
        "scenario",
        *(["checkout"] if len(roots) > 1 else []),
        *("tokens/s", "turns/s", "µs CPU/token", "gateway", "orchestrator", "shield", "inference", "± %"),
        *("ms CPU/turn", "cores", "others'", "tokens/delta", "TTFT p50/p99, ms", "added", "gap p50/p99, ms", "added"),
        *("KiB/stream", "failed"),
    )
    for result in results:
        shown = result.figures
        where = [result.variant.root.name] if len(roots) > 1 else []
        table.add_row(result.variant.title, *where, *_cells(shown, result))
    Console(width=240).print(table)
    for scenario in {result.variant.scenario.name: result.variant.scenario for result in results}.values():
        Console().print(f"{scenario.name}: {scenario.meaning}", style="dim")


def _cells(shown: Figures, result: Result) -> list[str]:
    scenario, alone = result.variant.scenario, result.engine
    services = ("gateway", "orchestrator", "shield", "inference")
    first_token = gap = ""
    if shown.first_token and alone and alone.first_token:
        first_token = f"{(shown.first_token.p50 - alone.first_token.p50) * 1e3:.1f}"
    if shown.gap and scenario.engine.pace:
        gap = f"{(shown.gap.p99 - 1 / scenario.engine.pace) * 1e3:.1f}"
    return [
        f"{shown.tokens_per_second:,.0f}",
        f"{shown.turns_per_second:.1f}",
        f"{shown.total_cpu_per_token * 1e6:.0f}",
        *(f"{shown.cpu_per_token[name] * 1e6:.0f}" for name in services),
        f"{result.spread * 100:.0f}",
        "" if shown.cpu_per_turn is None else f"{shown.cpu_per_turn * 1e3:.1f}",
        f"{shown.cores:.2f}",
        f"{shown.others:.2f}",
        f"{shown.tokens_per_delta:.2f}",
        _milliseconds(shown.first_token),
        first_token,
        _milliseconds(shown.gap),
        gap,
        f"{shown.memory / 1024:.0f}" if scenario.counts_memory else "",
        str(shown.failed),
    ]


def _milliseconds(spread: tuple[float, float] | None) -> str:
    return "" if spread is None else " / ".join(f"{value * 1e3:.1f}" for value in spread)


if __name__ == "__main__":
    typer.run(main)
