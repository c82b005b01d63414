"""The way to one service of a mesh: by URL, or that of the mesh that runs on this machine."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from tempfile import gettempdir
from typing import TypeVar

import grpc
import typer

from shieldmesh import channels
from shieldmesh.cli import terminal
from shieldmesh.cli.local.discovery import sockets_of
from shieldmesh.client.url import parse_url
from shieldmesh.errors import MeshError, UnavailableError

S = TypeVar("S")
T = TypeVar("T")


def ask(service: str, stub: Callable[[grpc.aio.Channel], S], url: str, question: Callable[[S], Awaitable[T]]) -> T:
    """The answer of the service at `url`, "" meaning that of the mesh that runs on this machine.

    Args:
        service: The name that it has in a mesh.
        stub: Makes its stub.
        url: Where it is.
        question: Asks the stub.

    Raises:
        typer.Exit: there is no such service, or it failed; the terminal says why.
    """
    target = _target(service, url)

    async def asked() -> T:
        return await question(stub(channels.get(target)))

    try:
        return asyncio.run(asked())
    except MeshError as error:
        terminal.fail_with(_explained(error, service, target))
    except KeyboardInterrupt:
        terminal.fail("cancelled", code=130)


def _target(service: str, url: str) -> str:
    if url:
        try:
            return parse_url(url)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--url") from None
    found = sockets_of(service, Path(gettempdir()))
    if not found:
        terminal.fail(
            f"no mesh runs on this machine: {_start(service)}",
            hint=f"a mesh with a --runtime-dir of its own is reached by --url unix:DIR/shieldmesh-*/{service}.sock",
        )
    if len(found) > 1:
        terminal.fail(f"{len(found)} meshes run on this machine: choose one with --url", hint="\n  ".join(found))
    return found[0]


def _explained(error: MeshError, service: str, target: str) -> MeshError:
    if not isinstance(error, UnavailableError) or any(hop.instance for hop in error.hops):
        return error
    hops = tuple(replace(hop, service=service) for hop in error.hops)
    return UnavailableError(
        f"no {service} service answers at {target}: {_start(service)}", reason=error.reason, hops=hops
    )


def _start(service: str) -> str:
    return f"start a mesh with `shieldmesh up`, or give the URL of {_article(service)} {service} service with --url"


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"
