"""One service as a child process."""

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, STDOUT, Process
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Final

from shieldmesh.cli.local.plan import PROCESS, Service

LAST_LINES: Final = 12
"""How many lines of a dead child's log are worth showing."""
_LOG_SECONDS: Final = 2.0
"""How long the log of a process that has ended may take to arrive, should a grandchild hold it open."""


class Child:
    """A running service. Its log goes to `on_line(service name, line)`.

    Attributes:
        service: What it is.
        started: When it was started, on `time.monotonic()`'s clock.
        last_lines: The end of its log.
    """

    def __init__(self, service: Service, process: Process, on_line: Callable[[str, str], None]) -> None:
        self.service = service
        self.started = time.monotonic()
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._process = process
        self._on_line = on_line
        self._log = asyncio.create_task(self._read_log())

    @classmethod
    async def spawn(
        cls, service: Service, root: Path, environment: Mapping[str, str], on_line: Callable[[str, str], None]
    ) -> "Child":
        """Starts the service in a process group of its own: Ctrl-C at the terminal is for the parent to judge."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "shieldmesh.leash", str(os.getpid()), service.module),
            cwd=root,
            env={**PROCESS, **environment, **service.environment, "PYTHONUNBUFFERED": "1"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            process_group=0,
        )
        return cls(service, process, on_line)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None

    async def wait(self) -> str:
        """Waits for its end and the end of its log; says how it ended: "exit code 3", "killed by SIGKILL"."""
        code = await self._process.wait()
        await asyncio.wait([self._log], timeout=_LOG_SECONDS)
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    async def stop(self, seconds: float) -> bool:
        """Asks it to end and waits, at most so long; then kills it. False when it had to be killed."""
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(seconds):
                await self.wait()
        except TimeoutError:
            self.kill()
            await self.wait()
            return False
        return True

    def kill(self) -> None:
        """Ends it at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.running:
            self._process.send_signal(number)

    async def _read_log(self) -> None:
        if self._process.stdout is None:
            return
        async for line in _lines(self._process.stdout):
            self.last_lines.append(line)
            self._on_line(self.service.name, line)


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[str]:
    """The lines of a log; one too long for the reader's buffer comes in pieces."""
    while not reader.at_eof():
        try:
            raw = await reader.readuntil()
        except asyncio.IncompleteReadError as end:
            raw = end.partial
        except asyncio.LimitOverrunError as long:
            raw = await reader.readexactly(long.consumed)
        if raw:
            yield raw.decode(errors="replace").rstrip()
