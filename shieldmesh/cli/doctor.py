"""`shieldmesh doctor`."""

import asyncio
from typing import Annotated

import typer

from shieldmesh.cli import terminal
from shieldmesh.cli.findings import render
from shieldmesh.client.url import DEFAULT_URL, parse_url
from shieldmesh.diagnostics.examination import examine
from shieldmesh.errors import MeshError


def doctor(
    url: Annotated[
        str, typer.Argument(help="The mesh: mesh://host:port or unix:/path.", envvar="SHIELDMESH_URL")
    ] = DEFAULT_URL,
) -> None:
    """Check a running mesh hop by hop: do session, trace, deadline and cancellation reach every service?

    It sends probes through the mesh, cancels one and lets one run into its deadline, and asks each hop what it saw.
    The first hop that drops something is named. No model is used and no turn is run; it takes about two seconds.

    Exit code 0: all is well. 1: something is wrong, or the mesh cannot be reached. 2: used wrongly.

    For example:

    - `shieldmesh doctor`

    - `shieldmesh doctor mesh://gateway.internal:50051`
    """
    try:
        target = parse_url(url)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="URL") from None
    try:
        diagnosis = asyncio.run(examine(target))
    except MeshError as error:
        terminal.fail_with(error)
    render(diagnosis, terminal.out())
    if diagnosis.faults:
        raise typer.Exit(1)
