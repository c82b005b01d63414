"""`python -m benchmarks.peers install`: the environments of the systems that the mesh is compared with."""

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from . import environments
from .environments import WANTED, NotInstalledError

app = typer.Typer(no_args_is_help=True, add_completion=False)
Names = Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(WANTED)}; all when none is named.")]


@app.command()
def install(names: Names = None) -> None:
    """Fill the environments in .venv-bench, at the versions of benchmarks/peers/requirements."""
    _each(environments.install, names)


@app.command()
def lock(names: Names = None) -> None:
    """Resolve the newest versions into benchmarks/peers/requirements."""
    _each(environments.lock, names)


def _each(work: Callable[[str], None], names: list[str] | None) -> None:
    # One that cannot be had is left out: the page says so.
    for name in names or WANTED:
        if name not in WANTED:
            raise typer.BadParameter(f"there is no environment {name}: expected one of {', '.join(WANTED)}")
        try:
            work(name)
        except NotInstalledError as error:
            print(error, file=sys.stderr)


if __name__ == "__main__":
    app()
