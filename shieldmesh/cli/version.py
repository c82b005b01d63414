"""`shieldmesh version`."""

import platform

import grpc
import typer

import shieldmesh


def version() -> None:
    """Say which version this is."""
    typer.echo(f"shieldmesh {shieldmesh.__version__} (grpcio {grpc.__version__}, Python {platform.python_version()})")
