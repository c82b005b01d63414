"""How soon generation stops when a client goes away: `python -m benchmarks.cancel`.

Over a real mesh of four processes with the real model: a client reads some of an endless answer and cancels; the time
runs until the engine's own counters say that nothing runs, asked for every millisecond. Promise 6 says 250 ms.
"""

import asyncio
import os
import tempfile
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table

import shieldmesh
from shieldmesh import calls, channels
from shieldmesh.cli.local.address import claim
from shieldmesh.cli.local.log import QuietLog
from shieldmesh.cli.local.mesh import running_mesh
from shieldmesh.cli.local.plan import plan_mesh
from shieldmesh.v1 import inference_pb2
from shieldmesh.v1.inference_pb2_grpc import InferenceServiceStub

if TYPE_CHECKING:
    from shieldmesh.v1.inference_pb2_grpc import InferenceServiceAsyncStub

ROOT: Final = Path(__file__).resolve().parents[1]
TURNS: Final = 40
BOUND: Final = 0.25
"""Seconds."""
PROFILE: Final = """
model: {model}
model_options: {options}
output: {{shields: [{{type: pii, action: redact}}, {{type: secrets, action: redact}}]}}
"""
PROFILES: Final = {
    "llamacpp": PROFILE.format(model="smollm2", options="{ignore_eos: true}"),
    "replay": PROFILE.format(model="script", options="{text: '" + "word " * 5000 + "', pace: 100}"),
}


async def main() -> None:
    """Prints the table."""
    table = Table("backend", "turns", "median, ms", "p95, ms", "most, ms", f"within {BOUND * 1000:.0f} ms")
    with tempfile.TemporaryDirectory(prefix="sm-") as directory:
        profiles = Path(directory) / "profiles"
        await asyncio.to_thread(_write, profiles)
        services = plan_mesh(Path(directory), claim("127.0.0.1:0"), profiles=profiles)
        targets = {service.name: service.target for service in services}
        async with running_mesh(services, ROOT, os.environ, QuietLog(Console(stderr=True))):
            models = InferenceServiceStub(channels.get(targets["inference"]))
            for backend in PROFILES:
                times = sorted([await _cancel(targets["gateway"], models, backend, turn) for turn in range(TURNS)])
                table.add_row(
                    backend,
                    str(TURNS),
                    *(f"{times[index] * 1000:.0f}" for index in (TURNS // 2, TURNS * 95 // 100, -1)),
                    str(sum(seconds <= BOUND for seconds in times)),
                )
    Console().print(table)


def _write(profiles: Path) -> None:
    profiles.mkdir()
    for name, text in PROFILES.items():
        (profiles / f"{name}.yaml").write_text(text)


async def _cancel(gateway: str, models: "InferenceServiceAsyncStub", profile: str, seed: int) -> float:
    """Seconds from the client's cancel, after 1 to 12 deltas, until no generation runs."""
    wanted = Random(seed).randint(1, 12)  # no secret
    async with shieldmesh.connect(gateway) as mesh:
        turn = mesh.chat("Tell a long story.", profile=profile, timeout=60)
        received = 0
        async for event in turn:
            received += isinstance(event, shieldmesh.Delta)
            if received == wanted:
                break
        began = time.monotonic()
        await turn.aclose()
        while await _running(models):  # noqa: ASYNC110  # the counters are in another process
            await asyncio.sleep(0.001)
        return time.monotonic() - began


async def _running(models: "InferenceServiceAsyncStub") -> int:
    listed = await calls.unary(models.ListModels, inference_pb2.ListModelsRequest(), timeout=10)
    return sum(model.running for model in listed.models)


if __name__ == "__main__":
    asyncio.run(main())
