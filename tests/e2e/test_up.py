"""`shieldmesh up` with real processes."""

import os
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

import shieldmesh
from tests.e2e.mesh import ECHO_MODELS, ROOT, clean_environment

LIMIT = 60.0
"""Seconds after which a test that hangs fails."""
SERVICES = {"gateway", "orchestrator", "shield", "inference"}


class Up:
    """A running `shieldmesh up`.

    Attributes:
        pids: Of the services, by name, once it is ready.
        url: Of the gateway, once it is ready.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._output: list[str] = []
        self.pids: dict[str, int] = {}
        self.url = ""

    def wait_ready(self) -> None:
        """Reads the output up to the line that says where the mesh serves."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._output.append(line)
            if ready := re.match(r"✓ (\w+) +ready in [\d.]+ s +pid (\d+)", line):
                self.pids[ready[1]] = int(ready[2])
            if serving := re.match(r"● the mesh serves at (\S+);", line):
                self.url = serving[1]
                return
        raise AssertionError("".join(self._output))

    def send(self, number: signal.Signals) -> None:
        """Signals the parent alone."""
        self._process.send_signal(number)

    def wait(self) -> tuple[int, str]:
        """Its exit code and all its output."""
        rest, _ = self._process.communicate(timeout=LIMIT)
        return self._process.returncode, "".join(self._output) + rest


@contextmanager
def up(*arguments: str, cwd: Path = ROOT, **environment: str) -> Generator[Up]:
    """`shieldmesh up`, killed at the end should it still run."""
    command = [sys.executable, "-m", "shieldmesh", "up", *arguments]
    with subprocess.Popen(  # noqa: S603  # our own program
        command,
        cwd=cwd,
        env={**clean_environment(), "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield Up(process)
        finally:
            process.kill()


def alive(pid: int) -> bool:
    """Whether a process with this id runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A dead child that its parent has not asked about yet still has its id.
    return ") Z " not in Path(f"/proc/{pid}/stat").read_text()


def until_dead(pids: list[int]) -> None:
    """Waits until none of the processes runs."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        with os.fdopen(descriptor, "rb") as handle:
            assert select.select([handle], [], [], LIMIT)[0], f"process {pid} lives on"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_starts_serves_and_stops_cleanly(number: signal.Signals) -> None:
    """All four become ready, a turn runs through them, and a signal ends them all, without a traceback."""
    with up("--listen", "127.0.0.1:0", "--models", str(ECHO_MODELS)) as mesh:
        mesh.wait_ready()
        assert set(mesh.pids) == SERVICES
        with shieldmesh.connect_sync(mesh.url) as client:
            assert client.chat("hello there", profile="echo", timeout=LIMIT).text() == "hello there"
        mesh.send(number)
        code, output = mesh.wait()
    assert code == 0, output
    assert "Traceback" not in output
    assert output.rstrip().endswith("● stopped")
    assert not any(alive(pid) for pid in mesh.pids.values())


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_that_dies_ends_the_mesh(name: str) -> None:
    """When one dies, it is named with the way it died, the others are stopped, and the exit code is 1."""
    with up("--listen", "127.0.0.1:0", "--models", str(ECHO_MODELS)) as mesh:
        mesh.wait_ready()
        os.kill(mesh.pids[name], signal.SIGKILL)
        code, output = mesh.wait()
    assert code == 1, output
    assert f"✗ {name} died (killed by SIGKILL)" in output
    assert "Traceback" not in output
    assert not any(alive(pid) for pid in mesh.pids.values())


def test_no_orphan_when_the_parent_is_killed() -> None:
    """The services die with `shieldmesh up`, even when it could not say goodbye."""
    with up("--listen", "127.0.0.1:0", "--models", str(ECHO_MODELS)) as mesh:
        mesh.wait_ready()
        mesh.send(signal.SIGKILL)
        mesh.wait()
        until_dead(list(mesh.pids.values()))


def test_a_port_in_use_is_said_at_once() -> None:
    """A taken port is one sentence that says how to choose another, before anything is started."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with up("--listen", address) as mesh:
            code, output = mesh.wait()
    assert (code, output) == (
        1,
        f"✗ {address} is in use: stop what serves there, or choose another address with --listen\n",
    )


def test_a_service_that_cannot_start_says_why(tmp_path: Path) -> None:
    """A broken list of models ends the start with the service's own words."""
    models = tmp_path / "models.yaml"
    models.write_text("models: [")
    with up("--listen", "127.0.0.1:0", "--models", str(models)) as mesh:
        code, output = mesh.wait()
    assert code == 1, output
    assert "✗ inference died (exit code 1)" in output
    assert "models.yaml" in output
    assert "Traceback" not in output


def test_a_socket_path_that_is_too_long(tmp_path: Path) -> None:
    """A runtime directory with too long a path is one sentence with the limit and what to do."""
    directory = tmp_path / ("x" * 100)
    directory.mkdir()
    with up("--listen", "127.0.0.1:0", "--runtime-dir", str(directory)) as mesh:
        code, output = mesh.wait()
    assert code == 1
    assert re.fullmatch(r"✗ the socket path .* has \d+ bytes, but at most 107 are possible: .*--runtime-dir\n", output)


def test_the_file_then_variables_then_flags(tmp_path: Path) -> None:
    """shieldmesh.yaml of the working directory counts, a variable wins over it, and a flag over both."""
    (tmp_path / "shieldmesh.yaml").write_text("listen: nonsense-of-the-file\n")
    with up(cwd=tmp_path) as mesh:
        assert "'nonsense-of-the-file' is no address" in mesh.wait()[1]
    with up(cwd=tmp_path, SHIELDMESH_LISTEN="nonsense-of-the-variable") as mesh:
        assert "'nonsense-of-the-variable' is no address" in mesh.wait()[1]
    with up("--listen", "nonsense-of-the-flag", cwd=tmp_path, SHIELDMESH_LISTEN="variable") as mesh:
        assert "'nonsense-of-the-flag' is no address" in mesh.wait()[1]
