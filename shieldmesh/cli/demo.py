"""`shieldmesh demo`."""

from pathlib import Path

from shieldmesh.cli import terminal
from shieldmesh.cli.local import checkout


def demo() -> None:
    """Show it all in a few seconds: start a mesh, ask a real model, watch a card number being redacted, stop.

    Fails when nothing was streamed or the card number got out.
    """
    try:
        root = checkout.find(Path.cwd())
    except checkout.CheckoutError as error:
        terminal.fail(str(error))
    # It needs the services' packages, which an install of the client alone lacks.
    from shieldmesh.cli.local.show import run_demo  # noqa: PLC0415

    run_demo(root)
