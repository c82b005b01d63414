"""A client that may be killed at any moment: `python -m tests.e2e.reader URL DIRECTORY FIRST LAST SEED`.

It runs the turns with the numbers from FIRST to below LAST, all at once, and writes each event into the turn's file
before it takes the next one. When it is started again, it goes on where its files end.
"""

import asyncio
import json
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import shieldmesh
from shieldmesh import Delta, Event, Finished, MeshError, Reconnect, Reconnected, Started, UnavailableError

PATIENT: Final = Reconnect(attempts=1_000, time=60.0)
TIMEOUT: Final = 120.0
SPREAD: Final = 3.0
"""Seconds over which the turns begin."""


def words(turn: int) -> str:
    """What a turn says: each word tells the turn and its place."""
    return " ".join(f"{turn}:{place}" for place in range(60))


def profile(turn: int) -> str:
    """The profile of a turn: every other one waits for its reader, the others need none."""
    return "waits" if turn % 2 else "detached"


class Record:
    """What a client has of a turn, in a file."""

    def __init__(self, directory: Path, turn: int) -> None:
        self._path = directory / f"{turn}.jsonl"
        self.lines: list[dict[str, Any]] = []
        self._path.touch()
        whole, _, _ = self._path.read_bytes().rpartition(b"\n")
        os.truncate(self._path, len(whole) + 1 if whole else 0)  # a line that the kill cut was not written
        self.lines = [json.loads(line) for line in whole.splitlines()]

    def add(self, **line: Any) -> None:
        """Writes down a line; it is the kernel's then, and outlives the process."""
        with self._path.open("ab", buffering=0) as file:
            file.write(json.dumps(line).encode() + b"\n")
        self.lines.append(line)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The lines that are events of the turn."""
        return [line for line in self.lines if "sequence" in line]

    @property
    def over(self) -> bool:
        """Whether the turn has ended for this client."""
        return any("reason" in line or "error" in line for line in self.lines)


async def read(mesh: shieldmesh.Mesh, record: Record, number: int) -> None:
    """Reads a turn to its end, from wherever its record ends."""
    while not record.over:
        try:
            async for event in _turn(mesh, record, number):
                record.add(**_line(event))
        except UnavailableError as error:
            if any(hop.instance for hop in error.hops):
                _fail(record, error)
            else:  # nobody has answered this process yet
                record.add(retried=error.reason)
                await asyncio.sleep(0.2)
        except MeshError as error:
            _fail(record, error)


def _turn(mesh: shieldmesh.Mesh, record: Record, number: int) -> shieldmesh.Turn:
    session, events = f"session-{number}", record.events
    if events:
        return mesh.resume(events[0]["turn"], after=events[-1]["sequence"], session=session, timeout=TIMEOUT)
    return mesh.chat(
        words(number), profile=profile(number), session=session, idempotency_key=f"key-{number}", timeout=TIMEOUT
    )


def _line(event: Event) -> dict[str, Any]:
    match event:
        case Started():
            return {"sequence": event.sequence, "turn": event.turn_id}
        case Delta():
            return {"sequence": event.sequence, "text": event.text}
        case Finished():
            return {"sequence": event.sequence, "reason": event.reason}
        case Reconnected():
            return {"reconnected": event.after}
        case _:
            return {"sequence": event.sequence}


def _fail(record: Record, error: MeshError) -> None:
    record.add(error=error.code.name, why=error.reason, message=str(error))


async def main(url: str, directory: Path, numbers: Sequence[int], chance: random.Random) -> None:
    """Runs the turns."""
    async with shieldmesh.connect(url, reconnect=PATIENT) as mesh, asyncio.TaskGroup() as tasks:
        for number in numbers:
            tasks.create_task(read(mesh, Record(directory, number), number))
            await asyncio.sleep(chance.random() * 2 * SPREAD / len(numbers))


if __name__ == "__main__":
    _url, _directory, _first, _last, _seed = sys.argv[1:]
    asyncio.run(main(_url, Path(_directory), range(int(_first), int(_last)), random.Random(_seed)))
