"""`shieldmesh shields`: what there is, what each shield sees of a text, and how policies compare."""

import typer

from shieldmesh.cli.shields.list import list_types
from shieldmesh.cli.shields.replay import replay
from shieldmesh.cli.shields.test import inspect


def build_group() -> typer.Typer:
    """The group with its subcommands."""
    group = typer.Typer(
        help="Look at the shields: which there are, what they see of a text, how policies compare.",
        epilog="They ask a shield service: the one of the mesh that `shieldmesh up` runs here, or the one at --url.",
        no_args_is_help=True,
    )
    group.command("list")(list_types)
    group.command("test")(inspect)
    group.command("replay")(replay)
    return group
