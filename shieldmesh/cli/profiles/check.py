"""`shieldmesh profiles check`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from shieldmesh.cli import terminal
from shieldmesh.cli.profiles.files import notices, read


def check(
    place: Annotated[Path, typer.Argument(help="The directory of the profiles, or one profile's file.")] = Path(
        "profiles"
    ),
) -> None:
    """Say all that is wrong with profiles, with file, line and field; nothing wrong ends with 0, else with 1.

    What is not wrong, but may surprise, is told as well and changes nothing.

    For example:

    - `shieldmesh profiles check`

    - `shieldmesh profiles check profiles/support.yaml`
    """
    profiles = read(place)
    console = terminal.notes()
    for notice in notices(profiles):
        console.print(f"[yellow]![/] {escape(notice)}")
    count = len(profiles)
    terminal.out().print(f"[green]✓[/] {count} {'profile' if count == 1 else 'profiles'}")
