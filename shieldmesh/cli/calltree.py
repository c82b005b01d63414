"""The way one turn took, as a tree with times.

It comes from what the turn itself says at its end: the orchestrator's clock, phase by phase.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from shieldmesh.cli.terminal import COLOURS
from shieldmesh.client.events import Finished, Receipt, Started, Usage

_BAR: Final = 28
"""Columns of the time line."""
_FILE_WIDTH: Final = 200


@dataclass(frozen=True, slots=True)
class Phase:
    """One line of the tree. Times are seconds from the turn's start; None where nobody measured."""

    branch: str
    service: str
    what: str = ""
    start: float | None = None
    end: float | None = None
    note: str = ""


def call_tree(started: Started, finished: Finished, elapsed: float) -> list[Phase]:
    """The phases of a turn, which took `elapsed` seconds as its client saw it."""
    times, receipt, usage = finished.timings, finished.receipt, finished.usage
    total = elapsed if times.total is None else times.total
    inner: list[Phase] = []
    if receipt.input_shields:
        inner.append(Phase("", "shield", "input", 0.0, times.input_cleared, ", ".join(receipt.input_shields)))
    inner += _generation(times.admitted, times.first_token, total, usage)
    if receipt.output_shields:
        inner.append(Phase("", "shield", "output", times.first_token, total, _held(receipt)))
    leaves = [replace(leaf, branch="      └─ " if leaf is inner[-1] else "      ├─ ") for leaf in inner]
    who = f"profile {started.profile}, model {started.model}"
    return [
        Phase("", "client", "", 0.0, elapsed, f"turn {started.turn_id}"),
        Phase("└─ ", "gateway", note=f"session {started.session_id}"),
        Phase("   └─ ", "orchestrator", "", 0.0, total, who),
        *leaves,
    ]


def render(phases: Iterable[Phase], console: Console) -> None:
    """Prints the tree with its time line."""
    rows = list(phases)
    whole = max((phase.end or 0.0 for phase in rows), default=0.0)
    table = Table.grid(padding=(0, 2))
    for justify in ("left", "left", "right", "left"):
        table.add_column(justify=justify, no_wrap=True)
    for phase in rows:
        table.add_row(*_cells(phase, whole))
    # A file has no width to fit into: nothing is cut there.
    console.print(table, soft_wrap=False, crop=False, width=console.width if console.is_terminal else _FILE_WIDTH)


def _generation(admitted: float | None, first: float | None, total: float, usage: Usage) -> list[Phase]:
    phases: list[Phase] = []
    if admitted is not None:
        phases.append(Phase("", "inference", "queue", 0.0, admitted))
    if first is not None:
        cached = f", {usage.cached_tokens} cached" if usage.cached_tokens else ""
        phases.append(Phase("", "inference", "prompt", admitted or 0.0, first, f"{usage.prompt_tokens} tokens{cached}"))
        rate = f", {usage.completion_tokens / (total - first):,.0f}/s" if total > first else ""
        phases.append(Phase("", "inference", "answer", first, total, f"{usage.completion_tokens} tokens{rate}"))
    return phases


def _held(receipt: Receipt) -> str:
    parts = [", ".join(receipt.output_shields)]
    if receipt.most_held_characters:
        hold = f"{receipt.longest_hold * 1000:,.0f} ms"
        parts.append(f"held at most {receipt.most_held_characters} characters, {hold}")
    for count, done in ((receipt.redacted_characters, "redacted"), (receipt.withheld_characters, "withheld")):
        if count:
            parts.append(f"{count} {done}")
    return "; ".join(parts)


def _cells(phase: Phase, whole: float) -> list[RenderableType]:
    colour = COLOURS.get(phase.service, "bold")
    name = Text.assemble((phase.branch, "dim"), (phase.service, colour), f" {phase.what}" if phase.what else "")
    if phase.start is None or phase.end is None:
        return [name, "", "", Text(phase.note, style="dim")]
    bar = Text(_bar(phase.start, phase.end, whole), style=colour)
    return [name, bar, f"{(phase.end - phase.start) * 1000:,.0f} ms", Text(phase.note, style="dim")]


def _bar(start: float, end: float, whole: float) -> str:
    if whole <= 0:
        return ""
    first = min(_BAR - 1, round(start / whole * _BAR))
    length = max(1, round(end / whole * _BAR) - first)
    return " " * first + "━" * length
