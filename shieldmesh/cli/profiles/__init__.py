"""`shieldmesh profiles`: what the files of profiles say, what is wrong with them, and how two of them differ."""

import typer

from shieldmesh.cli.profiles.check import check
from shieldmesh.cli.profiles.diff import diff
from shieldmesh.cli.profiles.list import list_profiles


def build_group() -> typer.Typer:
    """The group with its subcommands."""
    group = typer.Typer(
        help="Look at profiles: which there are, what is wrong with them, how they differ.",
        epilog="They read files; no mesh needs to run.",
        no_args_is_help=True,
    )
    group.command("list")(list_profiles)
    group.command("check")(check)
    group.command("diff")(diff)
    return group
