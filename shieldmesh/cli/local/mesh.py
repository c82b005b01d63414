"""The four processes as one thing: start, watch, stop."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NoReturn, Protocol

from shieldmesh.cli.local.child import Child
from shieldmesh.cli.local.health import until_serving
from shieldmesh.cli.local.plan import STOP_ORDER, Service

START_SECONDS: Final = 120.0
"""What loading a large model may take."""
STOP_SECONDS: Final = 20.0
"""More than the services' own grace for running turns (drain_grace) and their cleanup."""


class MeshDiedError(Exception):
    """A service ended by itself or did not become ready.

    Attributes:
        message: Which, and how.
        last_lines: The end of its log.
    """

    def __init__(self, message: str, last_lines: Sequence[str]) -> None:
        super().__init__(message)
        self.message = message
        self.last_lines = tuple(last_lines)


class Reporter(Protocol):
    """Is told what happens."""

    def line(self, service: str, line: str) -> None:
        """A service logged a line."""

    def ready(self, service: str, pid: int, seconds: float) -> None:
        """A service is ready, so long after its start."""

    def note(self, text: str) -> None:
        """Something else happened."""


class LocalMesh:
    """Running services."""

    def __init__(self, children: Sequence[Child], reporter: Reporter) -> None:
        self._children = children
        self._reporter = reporter

    async def until_death(self) -> NoReturn:
        """Waits until a service dies.

        Raises:
            MeshDiedError: one did.
        """
        deaths = [asyncio.create_task(self._death(child)) for child in self._children]
        try:
            await asyncio.gather(*deaths)
        finally:
            for death in deaths:
                death.cancel()
        raise AssertionError("a mesh has at least one service")

    async def until_ready(self) -> None:
        """Waits until every service is ready.

        Raises:
            MeshDiedError: one died or took too long.
        """
        death = asyncio.create_task(self.until_death())
        ready = asyncio.create_task(self._all_ready())
        try:
            await asyncio.wait([death, ready], return_when=asyncio.FIRST_COMPLETED)
            if death.done():
                await death
            await ready
        finally:
            death.cancel()
            ready.cancel()

    async def stop(self) -> None:
        """Stops all services, callers first; a second cancellation while it waits kills what is left."""
        try:
            for names in STOP_ORDER:
                await asyncio.gather(*(self._stop(child) for child in self._children if child.service.name in names))
        finally:
            for child in self._children:
                child.kill()

    async def _all_ready(self) -> None:
        await asyncio.gather(*(self._ready(child) for child in self._children))

    async def _ready(self, child: Child) -> None:
        try:
            async with asyncio.timeout(START_SECONDS):
                await until_serving(child.service.target)
        except TimeoutError:
            raise MeshDiedError(
                f"{child.service.name} was not ready after {START_SECONDS:.0f} s", child.last_lines
            ) from None
        self._reporter.ready(child.service.name, child.pid, time.monotonic() - child.started)

    async def _death(self, child: Child) -> NoReturn:
        how = await child.wait()
        raise MeshDiedError(f"{child.service.name} died ({how})", child.last_lines)

    async def _stop(self, child: Child) -> None:
        if child.running and not await child.stop(STOP_SECONDS):
            self._reporter.note(f"{child.service.name} did not stop within {STOP_SECONDS:.0f} s and was killed")


@asynccontextmanager
async def running_mesh(
    services: Sequence[Service], root: Path, environment: Mapping[str, str], reporter: Reporter
) -> AsyncGenerator[LocalMesh]:
    """Starts the services, waits until all are ready, and stops them at the end of the block, whatever ended it.

    Raises:
        MeshDiedError: a service died or did not become ready.
    """
    children: list[Child] = []
    mesh = LocalMesh(children, reporter)
    try:
        for service in services:
            child = await Child.spawn(service, root, environment, reporter.line)
            children.append(child)  # at once: what is started must be stopped, also if the next fails
        await mesh.until_ready()
        yield mesh
    except MeshDiedError as error:
        reporter.note(f"{error.message}; stopping the others")
        raise
    finally:
        await mesh.stop()
