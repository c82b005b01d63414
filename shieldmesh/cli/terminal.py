"""What all subcommands do at a terminal."""

import re
from typing import Final, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from shieldmesh.errors import MeshError

COLOURS: Final = {"gateway": "blue", "orchestrator": "green", "shield": "magenta", "inference": "cyan"}
"""One colour for each service, wherever it is shown."""

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def out() -> Console:
    """Where results go: standard output."""
    return _console(stderr=False)


def notes() -> Console:
    """Where everything about a result goes: standard error."""
    return _console(stderr=True)


def fail(message: str, *, hint: str = "", code: int = 1) -> NoReturn:
    """Says in red what went wrong and, below it, what to do; ends the program."""
    console = notes()
    console.print(f"[bold red]✗[/] {escape(message)}")
    if hint:
        console.print(f"  [dim]{escape(hint)}[/]")
    raise typer.Exit(code)


def fail_with(error: MeshError) -> NoReturn:
    """Shows a typed error with its call path as a tree; ends the program."""
    head, *path = str(error).splitlines()
    console = notes()
    console.print(f"[bold red]✗[/] {escape(head)}")
    for line in path:
        console.print(Text(f"  {line}", style="dim"))
    raise typer.Exit(1)


def read_standard_input(parameter: str) -> str:
    """The text that standard input holds, instead of an argument that said -.

    Raises:
        typer.BadParameter: it is not UTF-8.
    """
    try:
        return typer.get_binary_stream("stdin").read().decode()
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"standard input is not UTF-8 at byte {error.start}", param_hint=parameter) from None


def harmless(text: str) -> str:
    """The text without characters that would make a terminal do something: a model must not move the cursor."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, soft_wrap=True)
    # A file has no width; the 80 columns that are taken for it would be too few for a call tree.
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, soft_wrap=True, width=120)
