"""What is measured: something between a client and an engine, that can be started and asked."""

import asyncio
import os
import signal
import socket
import tempfile
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from .engine import Engine
from .load import Load

START_SECONDS: Final = 300.0
_STOP_SECONDS: Final = 10.0
_PAUSE: Final = 0.1

Engines: TypeAlias = "Mapping[str, Engine]"
"""Engines by the name of their scenario, which is the name of their model, too."""


@dataclass(frozen=True, slots=True)
class Running:
    """A system that runs."""

    load: Load
    """How it is asked; for what, the scenario's name says: it is the model's and the profile's, too."""
    alone: Load
    """How the engine behind it is asked without it."""
    pids: Mapping[str, int]
    """Its processes, by the name of what they do; an engine that belongs to it among them."""


@dataclass(frozen=True, slots=True)
class System:
    """Something to measure."""

    name: str
    title: str
    settings: str
    """How it was set up, in a sentence for the page."""
    start: Callable[[Engines], AbstractAsyncContextManager[Running]]
    """Runs it for the block, in front of these engines."""


class StartError(Exception):
    """A system did not come up; the message says which and what it last said."""


@asynccontextmanager
async def program(
    command: Sequence[str], port: int, *, environment: Mapping[str, str] | None = None
) -> AsyncGenerator[int]:
    """A program that listens on `port` of this machine; yields its process id when it does.

    Raises:
        StartError: it ended, or does not listen in time.
    """
    with tempfile.NamedTemporaryFile(prefix="bench-", suffix=".log") as log:
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, **(environment or {})},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,
        )
        try:
            if not await _listens(process, port):
                said = Path(log.name).read_text(errors="replace").strip()[-500:]  # noqa: ASYNC240  # a few bytes
                raise StartError(f"{Path(command[0]).name} does not listen on port {port}: {said}")
            yield process.pid
        finally:
            await _stop(process)


def free_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


async def _listens(process: asyncio.subprocess.Process, port: int) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(START_SECONDS):
            while process.returncode is None:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    return True
                await asyncio.sleep(_PAUSE)
    return False


async def _stop(process: asyncio.subprocess.Process) -> None:
    # The group: what it started goes with it.
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, TimeoutError):
            os.killpg(process.pid, number)
            async with asyncio.timeout(_STOP_SECONDS):
                await process.wait()
