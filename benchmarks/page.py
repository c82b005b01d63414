"""Makes docs/performance.md and docs/scaling.md of results: `python -m benchmarks.page [RESULTS]`.

The prose is in `pages/*.md`, with what was measured filled in; a chart is drawn from the same results.
"""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import jinja2
import typer

from . import results, tables
from .links import Links
from .peers import environments
from .peers.environments import NotInstalledError
from .results import DIRECTORY, Results
from .scaling import Model

ROOT: Final = Path(__file__).resolve().parents[1]
_PAGES: Final = Path(__file__).with_name("pages")
FULL: Final = DIRECTORY / "full.json"


def make(path: Path) -> None:
    """Writes the pages of a full run into docs/, of another one into a page beside the results."""
    seen = results.read(path)
    if path == FULL:
        _write(ROOT / "docs" / "performance.md", "performance.md", seen)
        _write(ROOT / "docs" / "scaling.md", "scaling.md", seen)
        _draw(path, ROOT / "docs" / "images")
    else:
        _write(path.with_suffix(".md"), "quick.md", seen)
        print(path.with_suffix(".md").read_text())


def render(name: str, seen: Results) -> str:
    """A page of `pages/` with what was measured filled in."""
    loader = jinja2.FileSystemLoader(_PAGES)
    environment = jinja2.Environment(  # noqa: S701  # Markdown, of our own
        loader=loader,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    values: Mapping[str, object] = {"seen": seen, "tables": tables, "model": Model.of(seen), "links": Links.of(seen)}
    return environment.get_template(name).render(values)


def _write(target: Path, name: str, seen: Results) -> None:
    target.write_text(render(name, seen))
    print(f"{target} was written")


def _draw(path: Path, directory: Path) -> None:
    try:
        python = environments.program("charts", "python")
    except NotInstalledError as error:
        print(f"no charts: {error}", file=sys.stderr)
        return
    subprocess.run([python, Path(__file__).with_name("charts.py"), path, directory], check=True)  # noqa: S603  # our own


def _main(path: Annotated[Path, typer.Argument(help="What a run wrote.")] = FULL) -> None:
    """Makes the pages again of results that are there."""
    make(path.resolve())


if __name__ == "__main__":
    typer.run(_main)
