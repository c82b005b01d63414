"""A turn's spans at a terminal: a line each, along one line of time."""

from typing import Final

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from shieldmesh.cli.calltree import bar
from shieldmesh.cli.terminal import COLOURS, harmless
from shieldmesh.diagnostics.waterfall import Row, Waterfall

_WIDE: Final = 100
_LONG_BAR: Final = 36
_SHORT_BAR: Final = 14
"""Columns of the time line, on wide terminals and on others."""
_ORDER: Final = ("turn", "session", "tenant", "trace", "profile", "model", "instead of", "outcome", "reason")


def render(tree: Waterfall, console: Console) -> None:
    """Prints whose turn it was and its spans with begin and duration; long notes wrap on a narrow terminal."""
    for name in _ORDER:
        if name in tree.facts:
            console.print(Text(f"{name:<7} {harmless(tree.facts[name])}", style="dim"))
    whole = max((row.start + row.duration for row in tree.rows), default=0.0)
    columns = _LONG_BAR if console.width >= _WIDE else _SHORT_BAR
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, min_width=max((cell_len(_name(row).plain) for row in tree.rows), default=0))
    table.add_column(no_wrap=True, min_width=columns)
    for _ in ("at", "took"):
        table.add_column(no_wrap=True, min_width=len("99,999"), justify="right")
    table.add_column(overflow="fold")
    table.add_row("", "", Text("at ms", style="dim"), Text("took ms", style="dim"), "")
    for row in tree.rows:
        table.add_row(*_cells(row, whole, columns))
    console.print(table, soft_wrap=False)
    if not tree.whole:
        console.print(Text("this is not all: the turn still runs, or a service forgot its part", style="yellow"))


def _name(row: Row) -> Text:
    what = harmless(row.what)
    if not row.own:
        return Text.assemble((row.branch, "dim"), what)
    return Text.assemble((row.branch, "dim"), (harmless(row.service), _colour(row)), " ", what)


def _cells(row: Row, whole: float, columns: int) -> list[RenderableType]:
    style = "red" if row.failure else _colour(row)
    note = Text(harmless(row.note), style="dim")
    if row.failure:
        note = Text.assemble((f"✗ {harmless(row.failure)}", "bold red"), ", " if row.note else "", note)
    line = Text(bar(row.start, row.start + row.duration, whole, columns), style=style)
    return [_name(row), line, _milliseconds(row.start), _milliseconds(row.duration), note]


def _colour(row: Row) -> str:
    return COLOURS.get(row.service, "bold")


def _milliseconds(seconds: float) -> str:
    """Short times to a tenth: a queue or a shield often takes less than a millisecond."""
    value = seconds * 1000
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"
