"""How far two runs agree on what costs how much: `python -m benchmarks.agree ONE.json OTHER.json`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from . import results
from .plan import OURS, OURS_HTTP

LIMIT = 0.15


def main(
    one: Annotated[Path, typer.Argument(help="What a run wrote.")],
    other: Annotated[Path, typer.Argument(help="What another one wrote.")],
) -> None:
    """Compares the processor time a token of each system, as a multiple of the mesh's, where all have room."""
    runs = results.read(one), results.read(other)
    table = Table("system", "one", "other", "apart, %", "")
    for name, title in runs[0].titles.items():
        base = OURS if name in {"hop", "envoy-grpc"} or name.startswith(f"{OURS}-") else OURS_HTTP
        ratios = [run.ratio(name, base, "steady", results.cpu_per_token) for run in runs]
        if name == base or None in ratios:
            continue
        first, second = (ratio.middle for ratio in ratios if ratio)
        apart = abs(first - second) / min(first, second)
        verdict = "agree" if apart <= LIMIT else f"more than {LIMIT:.0%} apart"
        table.add_row(title, f"{first:.2f}", f"{second:.2f}", f"{apart * 100:.0f}", verdict)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
