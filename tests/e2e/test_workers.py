"""A service as several processes on one port, and the one that was started to look after them."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

import shieldmesh
from tests.e2e.engine import TIMEOUT
from tests.e2e.mesh import ECHO_MODELS, READY_SECONDS, ROOT, Mesh, clean_environment, running

CONNECTIONS = 12
"""The kernel deals them out by chance: that one of two workers gets none of so many happens once in 2,048 runs."""


def test_workers_share_a_port_and_are_started_again_when_they_are_killed() -> None:
    """Turns go on while a worker is dead, a new one takes its place, and all end when the service is stopped."""
    with running(models=ECHO_MODELS, environment={"SHIELDMESH_GATEWAY_WORKERS": "2"}) as mesh:
        first = _workers(mesh, 2)
        assert _turns(mesh) == CONNECTIONS
        os.kill(first[0], signal.SIGKILL)
        assert _turns(mesh) == CONNECTIONS
        second = _workers(mesh, 2, but=first[0])
        assert first[1] in second
        assert _turns(mesh) == CONNECTIONS
        mesh.terminate("gateway")
        assert "worker killed" not in mesh.log("gateway")
    for pid in {*first, *second}:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


WRONG = {
    "a Unix socket": ("gateway", {"GATEWAY_LISTEN": "unix:/tmp/none.sock"}, "is a Unix socket"),
    "a log for one process": ("services.orchestrator", {"ORCHESTRATOR_PROFILES": "profiles"}, "through Redis alone"),
    "a log in memory": ("services.orchestrator", {"ORCHESTRATOR_TURN_LOG": "memory:"}, "turns through Redis alone"),
    "sessions in memory": (
        "services.orchestrator",
        {"ORCHESTRATOR_TURN_LOG": "redis://127.0.0.1:1", "ORCHESTRATOR_SESSIONS": "memory:"},
        "sessions through Redis alone",
    ),
}


@pytest.mark.parametrize(("module", "given", "said"), WRONG.values(), ids=WRONG)
def test_what_workers_cannot_share_is_refused(module: str, given: dict[str, str], said: str) -> None:
    """The service ends at once and says in a sentence what to do."""
    ended = _start(module, given)
    assert ended.returncode == 1
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_workers_do_not_join_a_server_that_does_not_know_of_them() -> None:
    """An address on which somebody serves is refused, even if that server would share it."""
    with closing(socket.socket()) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        ended = _start("gateway", {"GATEWAY_LISTEN": f"127.0.0.1:{other.getsockname()[1]}"})
    assert ended.returncode == 1
    assert "it is in use" in ended.stderr


def test_a_worker_that_cannot_start_ends_the_service() -> None:
    """What every worker would stumble over is not tried for ever: the service ends with the worker's exit code."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        metrics = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = _start("gateway", {"GATEWAY_LISTEN": "127.0.0.1:0", "GATEWAY_METRICS_LISTEN": metrics})
    assert ended.returncode == 1
    assert "worker died" in ended.stderr


def _turns(mesh: Mesh) -> int:
    """How many of as many turns were answered, each over a connection of its own."""
    answered = 0
    for _ in range(CONNECTIONS):
        with shieldmesh.connect_sync(mesh.url) as client:
            answered += client.chat("hello", profile="echo", timeout=TIMEOUT).result().text == "hello"
    return answered


def _workers(mesh: Mesh, count: int, *, but: int = 0) -> list[int]:
    """The process ids of the gateway's workers, as soon as there are so many that serve."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        said = mesh.log("gateway")
        serving = [pid for pid in _children(mesh.pid("gateway")) if pid != but and f'"pid": {pid}' in said]
        if len(serving) == count:
            return serving
        time.sleep(0.05)
    raise AssertionError(f"there are not {count} workers:\n{mesh.log('gateway')}")


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _start(module: str, given: dict[str, str]) -> subprocess.CompletedProcess[str]:
    service = module.rpartition(".")[2].upper()
    settings = {f"SHIELDMESH_{name}": value for name, value in given.items()} | {f"SHIELDMESH_{service}_WORKERS": "2"}
    return subprocess.run(  # noqa: S603  # our own program
        [sys.executable, "-m", module],
        cwd=ROOT,
        env=clean_environment() | settings,
        capture_output=True,
        text=True,
        timeout=READY_SECONDS,
        check=False,
    )
