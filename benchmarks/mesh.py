"""What one change costs: `python -m benchmarks.mesh`, or `--quick`; `--help` lists what can be varied.

`python -m benchmarks` measures everything, beside peers. Here each run starts a mesh of its own, and lets turns arrive
from a process of its own. With `--against DIR` the mesh of another checkout is measured in turn with this one's: on a
busy machine only their ratio means something.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from . import measure, scenarios
from .figures import Figures, spread_of
from .measure import Observation
from .scenarios import Scenario
from .testbed import ROOT, Bed, running

DEFAULT: Final = ("paced", "saturated", "latency", "short", "idle")
"""The scenarios that are played when none is named."""


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
    only: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(scenarios.ALL)}.")] = None,
    trace: Annotated[list[float] | None, typer.Option(help="A share of traces to record; 1 by default.")] = None,
    shields: Annotated[Shields, typer.Option(help="Shields on both ways, or none.")] = Shields.ON,
    against: Annotated[list[Path] | None, typer.Option(help="Another checkout to measure in turn.")] = None,
    rounds: Annotated[int, typer.Option(help="How often each is run; the one in the middle is shown.")] = 1,
    output: Annotated[Path | None, typer.Option(help="Write the figures here, as JSON.")] = None,
) -> None:
    """Measures the mesh and prints a table."""
    if unknown := set(only or ()) - scenarios.ALL.keys():
        raise typer.BadParameter(f"there is no scenario {unknown.pop()}: expected one of {', '.join(scenarios.ALL)}")
    chosen = [scenarios.ALL[name] for name in only or DEFAULT]
    variants = [
        Variant(each if quick else each.stretched(2), root.resolve(), ratio, guarded)
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
    seen: dict[Variant, list[Observation]] = {variant: [] for variant in variants}
    with measure.clients() as pool:
        for _ in range(rounds):
            for variant in variants:
                bed = Bed(guarded=variant.guarded, trace_ratio=variant.trace_ratio, root=variant.root)
                async with running(bed, {variant.scenario.name: variant.scenario.engine}) as mesh:
                    seen[variant].append(await measure.observe(mesh, variant.scenario, pool))
    results: list[Result] = []
    for variant, runs in seen.items():
        shown = sorted(runs, key=lambda run: run.system.total_cpu_per_token)[len(runs) // 2]
        results.append(Result(variant, shown.system, shown.alone, spread_of([run.system for run in runs])))
    return results


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
