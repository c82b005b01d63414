"""`shieldmesh up`."""

from pathlib import Path
from typing import Annotated

import typer

from shieldmesh.cli import terminal
from shieldmesh.cli.local import checkout
from shieldmesh.client.url import DEFAULT_URL


def up(
    *,
    listen: Annotated[
        str | None, typer.Option(help="Where the gateway serves: host:port or unix:/path.", show_default=DEFAULT_URL)
    ] = None,
    profiles: Annotated[
        Path | None, typer.Option(help="The directory of the profiles.", show_default="the checkout's profiles/")
    ] = None,
    models: Annotated[
        Path | None, typer.Option(help="The list of models, a YAML file.", show_default="the model that is shipped")
    ] = None,
    flows: Annotated[
        list[str] | None,
        typer.Option(help="A Python module with flows that profiles may name; once for each.", show_default="none"),
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json.", show_default="text")] = None,
    runtime_dir: Annotated[
        Path | None,
        typer.Option(help="Where to put the sockets; a short path.", show_default="the temporary directory"),
    ] = None,
) -> None:
    """Start a mesh on this machine: gateway, orchestrator, shield and inference.

    The four run as processes joined by Unix sockets, with one log. Ctrl-C stops them, callers first; when one
    dies, the others are stopped and you are told which died and why.

    Each option can also stand in `shieldmesh.yaml` in the working directory (`listen: 127.0.0.1:9000`) or in the
    environment (`SHIELDMESH_LISTEN=127.0.0.1:9000`); an option wins over a variable, a variable over the file.
    Variables such as `SHIELDMESH_SHIELD_LOG_LEVEL` go to that service.

    For example:

    - `shieldmesh up`

    - `shieldmesh up --listen 127.0.0.1:0` (any free port)

    - `shieldmesh up --profiles ./policies --log-format json`
    """
    flags: dict[str, object] = {
        "listen": listen,
        "profiles": profiles,
        "models": models,
        "flows": flows or None,
        "log_format": log_format,
        "runtime_dir": runtime_dir,
    }
    try:
        root = checkout.find(Path.cwd())
    except checkout.CheckoutError as error:
        terminal.fail(str(error))
    # It needs the services' packages, which an install of the client alone lacks.
    from shieldmesh.cli.local.run import run_mesh  # noqa: PLC0415

    run_mesh(root, flags)
