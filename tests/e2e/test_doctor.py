"""`shieldmesh doctor` against real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator

import pytest

from tests.e2e.mesh import ECHO_MODELS, ROOT, Mesh, clean_environment, running

LIMIT = 60.0
"""Seconds after which a test that hangs fails."""


@pytest.fixture(scope="module")
def echo() -> Generator[Mesh]:
    """A mesh whose services may be stopped for a while."""
    with running(models=ECHO_MODELS) as mesh:
        yield mesh


def doctor(url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603  # our own program
        [sys.executable, "-m", "shieldmesh", "doctor", url],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def test_a_running_mesh_is_well(echo: Mesh) -> None:
    """Session, trace, deadline and cancellation reach all four processes."""
    found = doctor(echo.url)
    assert found.returncode == 0, found.stdout + found.stderr
    assert [name in found.stdout for name in echo.targets] == [True] * 4
    assert "✗" not in found.stdout
    assert "?" not in found.stdout


def test_a_part_of_the_mesh_is_well_by_itself(echo: Mesh) -> None:
    """An inner service can be asked directly: what is behind it is examined, its own tracing included."""
    found = doctor(echo.targets["orchestrator"])
    assert "gateway" not in found.stdout
    assert found.stdout.count("shield") == 1
    # Nobody minted a turn: that is the gateway's work.
    assert found.returncode == 1
    assert "✗ turn: orchestrator has no turn" in found.stdout


def test_a_dead_service_is_named(echo: Mesh) -> None:
    """The others are examined as ever, and after its return all is well."""
    echo.kill("shield")
    found = doctor(echo.url)
    assert found.returncode == 1, found.stdout + found.stderr
    assert "✗ call: shield does not answer orchestrator" in found.stdout
    echo.start("shield")
    deadline = time.monotonic() + LIMIT
    while (found := doctor(echo.url)).returncode:  # the orchestrator may take a moment to connect again
        assert time.monotonic() < deadline, found.stdout + found.stderr


def test_a_frozen_service_is_named(echo: Mesh) -> None:
    """A process that accepts calls and never answers does not freeze the doctor."""
    os.kill(echo.pid("inference"), signal.SIGSTOP)
    try:
        found = doctor(echo.url)
    finally:
        os.kill(echo.pid("inference"), signal.SIGCONT)
    assert found.returncode == 1, found.stdout + found.stderr
    assert "✗ call: inference does not answer orchestrator (NO_ANSWER)" in found.stdout
