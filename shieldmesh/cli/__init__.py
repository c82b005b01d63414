"""The command line: one file per subcommand."""

import typer

from shieldmesh.cli import profiles, sessions, shields
from shieldmesh.cli.chat import chat
from shieldmesh.cli.demo import demo
from shieldmesh.cli.doctor import doctor
from shieldmesh.cli.models import models
from shieldmesh.cli.trace import trace
from shieldmesh.cli.up import up
from shieldmesh.cli.version import version

COMMANDS = (up, chat, trace, doctor, models, demo, version)
"""The subcommands, in the order of the help."""


def main() -> None:
    """Runs the command line and exits: 0 done, 1 failed, 2 used wrongly, 130 interrupted."""
    build_app()()


def build_app() -> typer.Typer:
    """The command line with all its subcommands."""
    app = typer.Typer(
        name="shieldmesh",
        help="Guardrails for streaming language models, as a mesh of gRPC services.",
        epilog="Start with `shieldmesh up` in one terminal and `shieldmesh chat` in another.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for command in COMMANDS:
        app.command()(command)
    app.add_typer(profiles.build_group(), name="profiles")
    app.add_typer(sessions.build_group(), name="sessions")
    app.add_typer(shields.build_group(), name="shields")
    return app
