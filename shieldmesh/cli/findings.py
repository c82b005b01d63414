"""What an examination found, at a terminal: a line for each hop, then what is wrong."""

from collections.abc import Sequence
from typing import Final

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shieldmesh.cli.terminal import COLOURS, harmless
from shieldmesh.diagnostics.diagnosis import Check, Diagnosis, Examined

_MARKS: Final = {True: ("✓", "green"), False: ("✗", "bold red"), None: ("?", "yellow")}


def render(diagnosis: Diagnosis, console: Console) -> None:
    """Prints the table and, below it, the first hop that drops something, for each check that fails."""
    names = _names(diagnosis.hops)
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, min_width=max((cell_len(name.plain) for name in names), default=0))
    for check in Check:
        table.add_column(no_wrap=True, min_width=len(check), justify="center")
    table.add_column(overflow="fold")
    table.add_row(*(Text(heading, style="dim") for heading in ("", *Check, "time left")))
    for name, hop in zip(names, diagnosis.hops, strict=True):
        left = "" if hop.remaining is None else f"{hop.remaining:.2f} s"
        table.add_row(name, *(Text(*_MARKS[hop.passed[check]]) for check in Check), Text(left, style="dim"))
    console.print(table, soft_wrap=False)
    for fault in diagnosis.faults:
        console.print(Text.assemble(("✗ ", "bold red"), (f"{fault.check}: ", "bold"), harmless(fault.message)))
    if any(passed is None for hop in diagnosis.hops for passed in hop.passed.values()):
        console.print(Text("? cannot be told: the hop could not be asked, or another replica answered", style="yellow"))
    if not diagnosis.faults:
        console.print(Text.assemble(("✓ ", "bold green"), "everything that was checked reaches every hop"))


def _names(hops: Sequence[Examined]) -> list[Text]:
    """The services as a tree. From the last to the first: a branch goes on when something below hangs on it."""
    names: list[Text] = []
    open_branches: set[int] = set()
    for hop in reversed(hops):
        stems = "".join("│  " if depth in open_branches else "   " for depth in range(1, hop.depth))
        branch = "" if not hop.depth else "├─ " if hop.depth in open_branches else "└─ "
        service = (harmless(hop.service), COLOURS.get(hop.service, "bold"))
        names.append(Text.assemble((stems + branch, "dim"), service))
        open_branches = {depth for depth in open_branches if depth < hop.depth} | {hop.depth}
    return names[::-1]
