"""The way one turn took, as a tree with times.

It comes from what the turn itself says at its end: the orchestrator's clock, phase by phase.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from shieldmesh.cli.terminal import COLOURS
from shieldmesh.client.events import Finished, Receipt, Started, Usage

_WIDE: Final = 100
_LONG_BAR: Final = 28
_SHORT_BAR: Final = 14
"""Columns of the time line, on wide terminals and on others."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One line of the tree. Times are seconds from the turn's start; None where nobody measured."""

    branch: str
    service: str
    what: str = ""
    start: float | None = None
    end: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class CallTree:
    """Whose turn it was, and its phases from the outside in."""

    started: Started
    phases: Sequence[Phase]


def call_tree(started: Started, finished: Finished, elapsed: float) -> CallTree:
    """The tree of a turn, which took `elapsed` seconds as its client saw it."""
    times, receipt, usage = finished.timings, finished.receipt, finished.usage
    total = elapsed if times.total is None else times.total
    inner: list[Phase] = []
    if receipt.input_shields:
        inner.append(Phase("", "shield", "input", 0.0, times.input_cleared, ", ".join(receipt.input_shields)))
    inner += _generation(times.admitted, times.first_token, total, usage)
    if receipt.output_shields:
        inner.append(Phase("", "shield", "output", times.first_token, total, _held(receipt)))
    leaves = [replace(leaf, branch="      └─ " if leaf is inner[-1] else "      ├─ ") for leaf in inner]
    instead = f" instead of {', '.join(started.fallback_from)}" if started.fallback_from else ""
    who = f"profile {started.profile}, model {started.model}{instead}"
    outer = [
        Phase("", "client", "", 0.0, elapsed),
        Phase("└─ ", "gateway"),
        Phase("   └─ ", "orchestrator", "", 0.0, total, who),
    ]
    return CallTree(started, [*outer, *leaves])


def render(tree: CallTree, console: Console) -> None:
    """Prints the tree with its time line; on a narrow terminal the line is short and long notes wrap."""
    whole = max(phase.end or 0.0 for phase in tree.phases)
    columns = _LONG_BAR if console.width >= _WIDE else _SHORT_BAR
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, min_width=max(cell_len(_name(phase).plain) for phase in tree.phases))
    table.add_column(no_wrap=True, min_width=columns)
    table.add_column(no_wrap=True, min_width=len("10,000 ms"), justify="right")
    table.add_column(overflow="fold")
    for phase in tree.phases:
        table.add_row(*_cells(phase, whole, columns))
    for name, value in (
        ("turn", tree.started.turn_id),
        ("session", tree.started.session_id),
        ("trace", tree.started.trace_id),
    ):
        if value:
            console.print(Text(f"{name:<7} {value}", style="dim"))
    console.print(table, soft_wrap=False)


def bar(start: float, end: float, whole: float, columns: int) -> str:
    """A piece of a time line of so many columns, which stands for `whole`; what took no time is seen all the same."""
    if whole <= 0:
        return ""
    first = min(columns - 1, round(start / whole * columns))
    length = max(1, round(end / whole * columns) - first)
    return " " * first + "━" * length


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


def _name(phase: Phase) -> Text:
    what = f" {phase.what}" if phase.what else ""
    return Text.assemble((phase.branch, "dim"), (phase.service, COLOURS.get(phase.service, "bold")), what)


def _cells(phase: Phase, whole: float, columns: int) -> list[RenderableType]:
    note = Text(phase.note, style="dim")
    if phase.start is None or phase.end is None:
        return [_name(phase), "", "", note]
    line = Text(bar(phase.start, phase.end, whole, columns), style=COLOURS.get(phase.service, "bold"))
    return [_name(phase), line, f"{(phase.end - phase.start) * 1000:,.0f} ms", note]
