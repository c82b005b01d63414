"""P12 over real processes: connections are cut, gateways and clients are killed, and no event is lost or doubled."""

import asyncio
import json
import os
import random
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

from tests.redis_server import RedisServer, redis_server

from .fleet import Fleet, running
from .mesh import ROOT, clean_environment
from .reader import words

TURNS: Final = 200
CLIENTS: Final = 2
WHOLE: Final = 2_000
"""About as many bytes are written down of a turn; more, when nothing is late."""
TYPED: Final = {("DATA_LOSS", "TURN_LOST"), ("UNAVAILABLE", "TURN_LOG_UNAVAILABLE")}
"""How a turn may fail whose log was away."""
SECONDS: Final = 180.0
"""How long the turns may take before the test gives up."""


class Clients:
    """Client processes, each with its share of the turns."""

    def __init__(self, url: str, directory: Path, seed: str, turns: int) -> None:
        share = turns // CLIENTS
        program = (sys.executable, "-m", "shieldmesh.leash", str(os.getpid()), "tests.e2e.reader", url, str(directory))
        self._commands = [
            (*program, str(first), str(first + share), f"{seed}.{first}") for first in range(0, turns, share)
        ]
        self._processes: list[asyncio.subprocess.Process] = []
        self.kills = 0

    async def start(self) -> None:
        """Starts them all."""
        self._processes = [await self._spawn(command) for command in self._commands]

    @property
    def busy(self) -> list[int]:
        """Those that have not read all of theirs."""
        return [number for number, process in enumerate(self._processes) if process.returncode is None]

    async def kill(self, number: int) -> None:
        """Ends one at once, and starts it again."""
        with suppress(ProcessLookupError):
            self._processes[number].kill()
        await self._processes[number].wait()
        self._processes[number] = await self._spawn(self._commands[number])
        self.kills += 1

    async def end(self) -> list[int | None]:
        """Ends what is left; how each one ended."""
        for number in self.busy:
            self._processes[number].kill()
        return [await process.wait() for process in self._processes]

    async def _spawn(self, command: Sequence[str]) -> asyncio.subprocess.Process:
        environment = {**clean_environment(), "PYTHONPATH": str(ROOT)}
        return await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment)


def write_profiles(directory: Path) -> Path:
    """One whose turns wait for their reader, and one whose turns need none."""
    directory.mkdir()
    policies: dict[str, dict[str, Any]] = {"waits": {"reconnect_grace": 60}, "detached": {"disconnect": "detach"}}
    for name, policy in policies.items():
        whole = {"model": "echo", "model_options": {"pace": 12}, **policy}
        (directory / f"{name}.yaml").write_text(json.dumps(whole))
    return directory


async def disturb(
    fleet: Fleet,
    clients: Clients,
    progress: Callable[[], float],
    chance: random.Random,
    redis: RedisServer | None,
) -> dict[str, int]:
    """Breaks something now and then, as the turns get on, until all clients have what they want; how often what."""
    breaks = ["cut"] * 16 + ["gateway"] * 3 + ["client"] * 3 + ["redis"] * (2 if redis else 0)
    chance.shuffle(breaks)
    moments = sorted(chance.uniform(0.02, 0.9) for _ in breaks)
    while clients.busy:
        await asyncio.sleep(0.05)
        if not moments or progress() < moments[0]:
            continue
        moments.pop(0)
        match breaks.pop(0):
            case "redis" if redis is not None:
                await asyncio.to_thread(redis.restart)
            case "cut":
                chance.choice(fleet.wires).cut(chance, 0.7)
            case "gateway":
                name = chance.choice(fleet.gateways)
                fleet.mesh.kill(name)
                fleet.mesh.spawn(name)
            case _:
                await clients.kill(chance.choice(clients.busy))
    for name in fleet.gateways:
        fleet.mesh.wait_ready(name)
    left = [what for what in breaks if what != "cut"]
    assert not left, "the turns ended before all was tried"
    return {"cuts": sum(wire.cuts for wire in fleet.wires), "gateways": 3, "clients": clients.kills}


async def read_all(
    fleet: Fleet, directory: Path, seed: str, *, turns: int = TURNS, redis: RedisServer | None = None
) -> dict[int, list[dict[str, Any]]]:
    """What the clients wrote of each turn, while things broke."""

    def progress() -> float:
        return sum(path.stat().st_size for path in directory.glob("*.jsonl")) / (turns * WHOLE)

    clients = Clients(fleet.entry.address, directory, seed, turns)
    await clients.start()
    try:
        async with asyncio.timeout(SECONDS):
            done = await disturb(fleet, clients, progress, random.Random(seed), redis)
    finally:
        codes = await clients.end()
    assert codes == [0] * CLIENTS
    records = {
        number: [json.loads(line) for line in (directory / f"{number}.jsonl").read_text().splitlines()]
        for number in range(turns)
    }
    broke = sum("reconnected" in line for lines in records.values() for line in lines)
    failed = sum("error" in line for lines in records.values() for line in lines)
    print(f"{seed}: {done}, of which turns saw {broke} in their middle; {failed} failed")  # noqa: T201  # for who tries seeds
    assert broke
    return records


def check(number: int, lines: list[dict[str, Any]]) -> None:
    """Each event of the turn once and in order, and its text as the model said it."""
    events = [line for line in lines if "sequence" in line]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1)), (number, lines)
    assert "".join(event.get("text", "") for event in events) == words(number), (number, lines)
    assert [event["reason"] for event in events if "reason" in event] == ["stop"], (number, lines)
    assert not [line for line in lines if "error" in line], (number, lines)


seeds = pytest.mark.parametrize("seed", os.environ.get("CHAOS_SEEDS", "1").split(","))


@seeds
async def test_one_machine(tmp_path: Path, seed: str) -> None:
    """200 turns over two gateways and an orchestrator with its log in a file."""
    log = {"SHIELDMESH_ORCHESTRATOR_TURN_LOG": str(tmp_path / "turns.db")}
    async with running(write_profiles(tmp_path / "profiles"), orchestrators=1, environment=log) as fleet:
        records = await read_all(fleet, tmp_path, f"sqlite-{seed}")
    for number, lines in records.items():
        check(number, lines)


@seeds
async def test_replicas(tmp_path: Path, seed: str) -> None:
    """200 turns over two gateways and two orchestrators, which share their log in Redis."""
    with redis_server() as redis:
        log = {"SHIELDMESH_ORCHESTRATOR_TURN_LOG": redis.url}
        async with running(write_profiles(tmp_path / "profiles"), orchestrators=2, environment=log) as fleet:
            records = await read_all(fleet, tmp_path, f"redis-{seed}")
    for number, lines in records.items():
        check(number, lines)


@seeds
async def test_redis_is_killed_too(tmp_path: Path, seed: str) -> None:
    """With a Redis that keeps what it was told, turns go on, or fail with an error that says so; nothing else."""
    with redis_server("--appendonly", "yes", "--appendfsync", "always") as redis:
        log = {"SHIELDMESH_ORCHESTRATOR_TURN_LOG": redis.url}
        async with running(write_profiles(tmp_path / "profiles"), orchestrators=2, environment=log) as fleet:
            records = await read_all(fleet, tmp_path, f"restart-{seed}", turns=TURNS // 4, redis=redis)
    for number, lines in records.items():
        errors = [line for line in lines if "error" in line]
        if not errors:
            check(number, lines)
            continue
        events = [line for line in lines if "sequence" in line]
        assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
        assert words(number).startswith("".join(event.get("text", "") for event in events))
        assert {(line["error"], line["why"]) for line in errors} <= TYPED
