"""A service as a child process."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from shieldmesh.cli.local.child import Child
from shieldmesh.cli.local.plan import PROCESS, Service

LIMIT = 60.0
"""Seconds after which a test that hangs fails."""


class Lines(list[str]):
    """What a child logged."""

    def __init__(self) -> None:
        super().__init__()
        self.first = asyncio.Event()

    def add(self, _service: str, line: str) -> None:
        self.append(line)
        self.first.set()


async def spawn(directory: Path, program: str, **environment: str) -> tuple[Child, Lines]:
    (directory / "program.py").write_text(program)
    lines = Lines()
    service = Service("shield", "program", "unix:/nowhere", {"GREETING": "hello"})
    child = await Child.spawn(service, directory, {"PYTHONPATH": str(Path.cwd()), **environment}, lines.add)
    return child, lines


@pytest.mark.parametrize(
    ("program", "how"),
    [
        ("raise SystemExit(3)", "exit code 3"),
        ("", "exit code 0"),
        ("import os; os.kill(os.getpid(), 9)", "killed by SIGKILL"),
    ],
)
async def test_it_tells_how_it_ended(tmp_path: Path, program: str, how: str) -> None:
    """An exit code or the name of a signal."""
    child, _ = await spawn(tmp_path, program)
    async with asyncio.timeout(LIMIT):
        assert await child.wait() == how


async def test_its_log_arrives_line_by_line(tmp_path: Path) -> None:
    """Both streams, endless lines in pieces, bytes that are no text, and a last line without an end."""
    program = (
        "import os, sys\n"
        "print(os.environ['GREETING'])\n"
        "sys.stderr.write('x' * 200_000 + '\\n')\n"
        "sys.stdout.buffer.write(b'\\xff\\nlast')"
    )
    child, lines = await spawn(tmp_path, program)
    async with asyncio.timeout(LIMIT):
        await child.wait()
    assert lines[0] == "hello"
    assert "".join(lines[1:-2]) == "x" * 200_000
    assert lines[-2:] == ["\N{REPLACEMENT CHARACTER}", "last"]
    assert list(child.last_lines) == lines[-12:]


@pytest.mark.parametrize(("given", "expected"), [({}, PROCESS["GRPC_EXPERIMENTS"]), ({"GRPC_EXPERIMENTS": ""}, "")])
async def test_grpc_is_set_up_unless_somebody_has(tmp_path: Path, given: dict[str, str], expected: str) -> None:
    """A service finds the settings for processes in its environment; who sets one, decides."""
    child, lines = await spawn(tmp_path, "import os\nprint(os.environ['GRPC_EXPERIMENTS'], 'is set')", **given)
    async with asyncio.timeout(LIMIT):
        await child.wait()
    assert lines == [f"{expected} is set"]


async def test_one_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    """A service that ignores the request to end is killed after the time it was given."""
    program = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up')\ntime.sleep(60)"
    child, lines = await spawn(tmp_path, program)
    async with asyncio.timeout(LIMIT):
        await lines.first.wait()
        assert await child.stop(0.1) is False
    assert not child.running


def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    """A parent that ends without a word takes its child with it."""
    (tmp_path / "child.py").write_text("import time\nprint('up', flush=True)\ntime.sleep(60)")
    parent = (
        "import os, subprocess, sys\n"
        "command = [sys.executable, '-m', 'shieldmesh.leash', str(os.getpid()), 'child']\n"
        "child = subprocess.Popen(command, cwd=sys.argv[1], env={'PYTHONPATH': sys.argv[2]}, stdout=subprocess.PIPE)\n"
        "child.stdout.read(1)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    with subprocess.Popen(  # noqa: S603  # our own program
        [sys.executable, "-c", parent, str(tmp_path), str(Path.cwd())], stderr=subprocess.PIPE
    ) as process:
        # The grandchild holds the other end of this pipe: it ends when the grandchild does.
        _, errors = process.communicate(timeout=LIMIT)
    assert errors == b""
