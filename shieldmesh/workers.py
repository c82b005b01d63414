"""A service as several processes on one port: the kernel gives each new connection to one of them.

The process that was started serves nothing itself: it starts the workers, starts those again that are killed, and
passes on that it is to stop. Each worker is told what it was told, but to be alone and to share the port.
"""

import asyncio
import errno
import os
import signal
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import structlog

from shieldmesh import settings
from shieldmesh.settings import ServiceSettings

_PAUSE: Final = 1.0
"""Seconds before a worker is started again."""
_CLEANUP: Final = 10.0
"""Seconds that workers get beyond what their calls get to finish."""
_log = structlog.stdlib.get_logger("shieldmesh.workers")


def supervise(module: str, given: ServiceSettings) -> None:
    """Runs `python -m MODULE` as often as the settings say, until SIGTERM or SIGINT; returns when all have ended.

    Raises:
        SystemExit: the address cannot be shared or is in use, or a worker failed, as a service alone would have.
    """
    with _reserved(given.listen) as address:
        if code := asyncio.run(_Workers(module, given, address).run()):
            sys.exit(code)


class _Workers:
    def __init__(self, module: str, given: ServiceSettings, address: str) -> None:
        self._module = module
        self._given = given
        self._address = address
        self._stop = asyncio.Event()
        self._code = 0

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for kind in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(kind, self._stop.set)
        _log.info("supervising", address=self._address, workers=self._given.workers, pid=os.getpid())
        async with asyncio.TaskGroup() as workers:
            for number in range(self._given.workers):
                workers.create_task(self._keep(number))
        _log.info("stopped", workers=self._given.workers)
        return self._code

    async def _keep(self, number: int) -> None:
        """One worker after the other, until the stop."""
        while not self._stop.is_set():
            process = await self._spawn(number)
            await self._until_end(process)
            if self._stop.is_set():
                return
            code = process.returncode or 0
            _log.warning("worker died", worker=number, pid=process.pid, code=code)
            if code > 0:
                # Not killed from outside: the next one would fail in the same way.
                self._code = code
                self._stop.set()
                return
            await self._pause()

    async def _spawn(self, number: int) -> asyncio.subprocess.Process:
        changes: dict[str, object] = {"workers": 1, "share_port": True, "listen": self._address}
        if self._given.metrics_listen:
            host, port = settings.split_address(self._given.metrics_listen, "metrics_listen")
            changes["metrics_listen"] = _join(host, port + number)
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "shieldmesh.leash", str(os.getpid()), self._module),
            env=settings.environment(self._given, changes),
            stdin=asyncio.subprocess.DEVNULL,
            # Ctrl-C at the terminal is for this process to judge.
            process_group=0,
        )

    async def _until_end(self, process: asyncio.subprocess.Process) -> None:
        """Waits for the worker's end; after the stop it gets time to finish, and then none."""
        ended = asyncio.ensure_future(process.wait())
        stopped = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not ended.done():
            process.terminate()
            await asyncio.wait([ended], timeout=self._given.drain_notice + self._given.drain_grace + _CLEANUP)
        if not ended.done():
            _log.warning("worker killed", pid=process.pid)
            process.kill()
        await ended

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(_PAUSE):
                await self._stop.wait()
        except TimeoutError:
            pass


@contextmanager
def _reserved(listen: str) -> Generator[str]:
    """Keeps the address for the workers; yields it with the port that was chosen where it says port 0.

    Raises:
        SystemExit: it is a Unix socket, in use, or no address of this machine.
    """
    if listen.startswith("unix:"):
        raise SystemExit(
            f"workers share a TCP port, and {listen} is a Unix socket: listen on host:port, or set workers to 1"
        )
    host, port = settings.split_address(listen, "listen")
    try:
        keeper = _keeper(host, port)
    except OSError as error:
        reason = "it is in use" if error.errno == errno.EADDRINUSE else error.strerror
        raise SystemExit(f"cannot listen on {listen}: {reason}; stop what serves there, or choose another") from None
    with keeper:
        yield _join(host, keeper.getsockname()[1])


def _keeper(host: str, port: int) -> socket.socket:
    """A socket at an address where nobody listened, which lets only those have it that share it."""
    family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
        0
    ]
    with socket.socket(family, kind, protocol) as probe:
        # Not shared: a server that is there already would not know whose calls it gets.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(where)
        probe.listen()
        where = probe.getsockname()
    keeper = socket.socket(family, kind, protocol)
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    keeper.bind(where)
    return keeper


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
