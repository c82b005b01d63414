"""What subcommands need that read profiles from files."""

from importlib.util import find_spec
from typing import Final

from shieldmesh.cli import terminal

NEEDED: Final = ("jinja2", "jsonschema_rs", "phonenumbers", "pydantic", "yaml")
"""What reading policies needs beside the client's own packages."""


def require_packages() -> None:
    """Returns when policies can be read here.

    Raises:
        typer.Exit: packages are missing; the terminal says what to do.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        terminal.fail(
            f"reading policies needs packages that are not installed ({', '.join(missing)})",
            hint="install them with `pip install 'shieldmesh[services]'`, or `make install` in a checkout",
        )
