"""The way to a shield service: by URL, or the one of the mesh that runs on this machine."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from tempfile import gettempdir
from typing import Annotated, Final, TypeAlias, TypeVar

import typer

from shieldmesh import channels
from shieldmesh.cli import terminal
from shieldmesh.cli.local.discovery import sockets_of
from shieldmesh.client.url import parse_url
from shieldmesh.errors import MeshError, UnavailableError
from shieldmesh.v1 import shield_pb2_grpc

Stub: TypeAlias = "shield_pb2_grpc.ShieldServiceAsyncStub"  # exists for type checkers alone
T = TypeVar("T")

Url = Annotated[
    str,
    typer.Option(
        help="The shield service: grpc://host:port or unix:/path.",
        show_default="the one of the mesh that runs on this machine",
    ),
]

_START: Final = "start a mesh with `shieldmesh up`, or give the URL of a shield service with --url"


def ask(url: str, question: Callable[["Stub"], Awaitable[T]]) -> T:
    """The answer of the service at `url`, "" meaning that of the mesh that runs on this machine.

    Raises:
        typer.Exit: there is no such service, or it failed; the terminal says why.
    """
    target = _target(url)
    try:
        return asyncio.run(_ask(target, question))
    except MeshError as error:
        terminal.fail_with(_explained(error, target))
    except KeyboardInterrupt:
        terminal.fail("cancelled", code=130)


async def _ask(target: str, question: Callable[["Stub"], Awaitable[T]]) -> T:
    return await question(shield_pb2_grpc.ShieldServiceStub(channels.get(target)))


def _target(url: str) -> str:
    if url:
        try:
            return parse_url(url)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--url") from None
    found = sockets_of("shield", Path(gettempdir()))
    if not found:
        terminal.fail(
            f"no mesh runs on this machine: {_START}",
            hint="a mesh with a --runtime-dir of its own is reached by --url unix:DIR/shieldmesh-*/shield.sock",
        )
    if len(found) > 1:
        terminal.fail(f"{len(found)} meshes run on this machine: choose one with --url", hint="\n  ".join(found))
    return found[0]


def _explained(error: MeshError, target: str) -> MeshError:
    if not isinstance(error, UnavailableError) or any(hop.instance for hop in error.hops):
        return error
    hops = tuple(replace(hop, service="shield") for hop in error.hops)
    return UnavailableError(f"no shield service answers at {target}: {_START}", reason=error.reason, hops=hops)
