"""Peers that speak OpenAI's API over HTTP on both sides."""

import tempfile
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import upstream
from benchmarks.load import Load
from benchmarks.system import Engines, Running, free_port, program


@dataclass(frozen=True, slots=True)
class Setup:
    """How a peer is started."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """What requests to it need beside the usual."""
    fields: Mapping[str, object] = field(default_factory=dict[str, object])
    """What requests to it say beside the model and the message."""


Configure = Callable[[Path, Engines, str, int], Setup]
"""Writes a peer's configuration into a directory, for engines at `host:port`, to listen on a port."""


def peer(name: str, configure: Configure) -> Callable[[Engines], AbstractAsyncContextManager[Running]]:
    """Starts a peer in front of a scripted server."""

    @asynccontextmanager
    async def start(engines: Engines) -> AsyncGenerator[Running]:
        with tempfile.TemporaryDirectory(prefix="bench-") as directory:
            port = free_port()
            async with upstream.serving(engines) as address:
                setup = configure(Path(directory), engines, address, port)
                async with program(setup.command, port, environment=setup.environment) as pid:
                    load = Load(f"127.0.0.1:{port}", "openai", headers=setup.headers, fields=setup.fields)
                    yield Running(load, Load(address, "openai"), {name: pid})

    return start
