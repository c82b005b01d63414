"""The demonstration: a mesh, two turns, a clean stop."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from rich.rule import Rule

from shieldmesh.cli import terminal
from shieldmesh.cli.answer import ReadableAnswer
from shieldmesh.cli.calltree import render
from shieldmesh.cli.chat import converse
from shieldmesh.cli.demonstration import GUARDED, PLAIN, Act, problems_of
from shieldmesh.cli.local.log import QuietLog
from shieldmesh.cli.local.mesh import MeshDiedError, running_mesh
from shieldmesh.cli.local.plan import Service
from shieldmesh.cli.local.run import cancel_on_signals, fail_with_death, planned
from shieldmesh.cli.local.settings import SettingsError, load
from shieldmesh.client.events import Event
from shieldmesh.client.mesh import Mesh, connect
from shieldmesh.errors import MeshError


class Witness(ReadableAnswer):
    """Shows a turn and remembers it."""

    def __init__(self) -> None:
        super().__init__(terminal.out(), terminal.out())
        self.events: list[Event] = []

    def show(self, event: Event) -> None:
        """Shows one event."""
        self.events.append(event)
        super().show(event)


def run_demo(root: Path) -> None:
    """Runs the demonstration with the services of the checkout `root`.

    Raises:
        typer.Exit: it did not show what it should; the terminal says what.
    """
    try:
        settings = load({"listen": "127.0.0.1:0"}, os.environ)
    except SettingsError as error:
        terminal.fail(str(error), code=2)
    with planned(root, settings) as services:
        problems = _watch(services, root)
    if problems:
        terminal.fail("; ".join(problems))
    terminal.out().print("[bold green]✓[/] streamed, guarded, and stopped cleanly")


def _watch(services: Sequence[Service], root: Path) -> list[str]:
    try:
        return asyncio.run(_perform(services, root))
    except MeshDiedError as error:
        fail_with_death(error)
    except MeshError as error:
        terminal.fail_with(error)
    except asyncio.CancelledError:
        terminal.fail("interrupted: the mesh was stopped", code=130)


async def _perform(services: Sequence[Service], root: Path) -> list[str]:
    cancel_on_signals()
    log = QuietLog(terminal.out())
    async with running_mesh(services, root, os.environ, log), connect(services[-1].target) as mesh:
        try:
            return [problem for act in (PLAIN, GUARDED) for problem in await _play(act, mesh)]
        except MeshError:
            log.show_last()
            raise


async def _play(act: Act, mesh: Mesh) -> list[str]:
    out, witness = terminal.out(), Witness()
    out.print(Rule(act.title, style="dim"))
    out.print(f'[dim]$ shieldmesh chat --profile {act.profile} --trace[/] "{act.prompt}"')
    tree = await converse(mesh.chat(act.prompt, profile=act.profile, timeout=120.0), witness)
    if tree is not None:
        render(tree, out)
    return problems_of(act, witness.events)
