"""`shieldmesh demo` with real processes and the real model."""

import subprocess
import sys
from pathlib import Path

from tests.e2e.mesh import ECHO_MODELS, ROOT, clean_environment

LIMIT = 300.0
"""Seconds after which a test that hangs fails."""


def demo(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # our own program
        [sys.executable, "-m", "shieldmesh", "demo"],
        cwd=ROOT,
        env={**clean_environment(), **environment},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def test_it_shows_a_streamed_and_a_redacted_answer() -> None:
    """Four services, two answers with their call trees, a placeholder instead of the card, a clean stop, exit 0."""
    shown = demo()
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert shown.stdout.count("ready in") == 4
    assert "My card is [PAYMENT_CARD], please keep it safe." in shown.stdout
    assert shown.stdout.count("└─ orchestrator") == 2
    assert "Traceback" not in shown.stdout + shown.stderr


def test_it_fails_when_the_card_gets_out(tmp_path: Path) -> None:
    """With a policy that guards nothing, the demonstration notices the leak and fails."""
    for name in ("default", "echo"):
        (tmp_path / f"{name}.yaml").write_text("model: echo\n")
    shown = demo(SHIELDMESH_PROFILES=str(tmp_path), SHIELDMESH_MODELS=str(ECHO_MODELS))
    assert shown.returncode == 1, shown.stdout + shown.stderr
    assert "the card number got out" in shown.stderr
