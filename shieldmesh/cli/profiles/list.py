"""`shieldmesh profiles list`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from shieldmesh.cli import terminal
from shieldmesh.cli.profiles.files import read

if TYPE_CHECKING:
    from shieldmesh.profile import Policy, Profile


def list_profiles(
    place: Annotated[Path, typer.Argument(help="The directory of the profiles, or one profile's file.")] = Path(
        "profiles"
    ),
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the profiles as a JSON array.")] = False,
) -> None:
    """Show profiles: the model of each, what guards it, and what its callers may say.

    For example:

    - `shieldmesh profiles list`

    - `shieldmesh profiles list --json | jq -r '.[] | select(.model == "smollm2").name'`
    """
    rows = [_row(name, profile) for name, profile in read(place).items()]
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    table = Table.grid(padding=(0, 2))
    for _ in ("name", "version", "model"):
        table.add_column(no_wrap=True)
    headings = ("name", "version", "model", "input shields", "output shields", "callers may set")
    table.add_row(*(Text(heading, style="dim") for heading in headings))
    for row in rows:
        name, *rest = (_cell(value) for value in row.values())
        table.add_row(Text(name, style="bold"), *rest)
    terminal.out().print(table, soft_wrap=False)


def _row(name: str, profile: "Profile") -> Mapping[str, str | Sequence[str]]:
    policy = profile.policy
    return {
        "name": name,
        "version": profile.version,
        "model": policy.model,
        "input_shields": [shield.name for shield in policy.input.shields],
        "output_shields": [shield.name for shield in policy.output.shields],
        "callers_may_set": [*policy.allow_overrides, *_variables(policy)],
    }


def _variables(policy: "Policy") -> list[str]:
    """The variables of the prompt, as the contract addresses them."""
    if isinstance(policy.prompt, str):
        return []
    return [f"variables.{name}" for name in policy.prompt.variables]


def _cell(value: str | Sequence[str]) -> str:
    return terminal.harmless(value if isinstance(value, str) else ", ".join(value) or "none")
