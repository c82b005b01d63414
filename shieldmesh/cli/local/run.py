"""A mesh on this machine, run until somebody ends it."""

import asyncio
import os
import signal
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import typer
from rich.text import Text

from shieldmesh.cli import terminal
from shieldmesh.cli.local.address import AddressError, claim
from shieldmesh.cli.local.discovery import PREFIX
from shieldmesh.cli.local.log import JsonLog, ReadableLog
from shieldmesh.cli.local.mesh import MeshDiedError, running_mesh
from shieldmesh.cli.local.plan import Service, plan_mesh
from shieldmesh.cli.local.settings import SettingsError, UpSettings, load


def run_mesh(root: Path, flags: dict[str, object]) -> None:
    """Runs the mesh of the checkout `root` until it is told to stop; flags that are None were not given.

    Raises:
        typer.Exit: it could not be started or a service died; the terminal says why.
    """
    try:
        settings = load(flags, os.environ)
    except SettingsError as error:
        terminal.fail(str(error), code=2)
    as_json = settings.log_format == "json"
    log = JsonLog(terminal.out(), terminal.notes()) if as_json else ReadableLog(terminal.out())
    with planned(root, settings) as services:
        asyncio.run(_until_stopped(services, root, log))


@contextmanager
def planned(root: Path, settings: UpSettings) -> Generator[Sequence[Service]]:
    """The services to start, with a private directory for their sockets that goes at the end of the block.

    Raises:
        typer.Exit: the gateway's address is taken, or a socket's path would be too long; the terminal says which.
    """
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=settings.runtime_dir) as directory:
        try:
            services = plan_mesh(
                Path(directory).resolve(),
                claim(settings.listen),
                profiles=(settings.profiles or root / "profiles").resolve(),
                models=settings.models.resolve() if settings.models else None,
                flows=settings.flows,
                log_format=settings.log_format,
            )
        except AddressError as error:
            terminal.fail(str(error))
        yield services


def cancel_on_signals() -> None:
    """Has Ctrl-C, a termination and a closed terminal cancel the current task: what it holds is cleaned up."""
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("no task is running")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Under nohup a closed terminal is meant to change nothing.
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)


def fail_with_death(error: MeshDiedError) -> NoReturn:
    """Says which service died, how, and what it said last; ends the program."""
    console = terminal.notes()
    console.print(Text(f"✗ {error.message}", style="bold red"))
    if error.last_lines:
        console.print("  its last lines:", style="dim")
    for line in error.last_lines:
        console.print(Text(f"  │ {terminal.harmless(line)}", style="dim"))
    raise typer.Exit(1)


async def _until_stopped(services: Sequence[Service], root: Path, log: ReadableLog) -> None:
    cancel_on_signals()
    gateway = services[-1].target
    try:
        async with running_mesh(services, root, os.environ, log) as mesh:
            log.note(f'the mesh serves at {gateway}; try: shieldmesh chat --url {gateway} "Why is the sky blue?"')
            await mesh.until_death()
    except asyncio.CancelledError:
        # This is the program's outermost task, and being told to stop is how it is meant to end.
        log.note("stopped")
    except MeshDiedError as error:
        fail_with_death(error)
