"""What window shields cost: `python -m benchmarks.window_shields`.

The text and the deltas are those of `benchmarks.shields`. Processor time is that of the whole process, as models work
in threads. Then: how long eight shields take whose models need 20 ms for a window, beside the time of one.
"""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import skops.io
from rich.console import Console
from rich.table import Table
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline

from benchmarks.shields import deltas
from services.shield.catalogue import Catalogue
from services.shield.inspection import Inspection
from services.shield.shield import Rules, Shield, SlowShield
from services.shield.spans import ShieldSpans
from services.shield.window.batching import Batcher
from services.shield.window.building import Means
from services.shield.window.model import Seen
from services.shield.window.models.files import ModelFiles
from services.shield.window.shield import WindowShield
from shieldmesh.profile import struct
from shieldmesh.profile.options import Window
from shieldmesh.v1 import policy_pb2

ROUNDS: Final = 3
TURNS: Final = 8
"""Texts at the same time, whose windows share batches."""
SLOW: Final = 0.02
"""Seconds that a slow model needs for a batch."""
SIDE_BY_SIDE: Final = 8


def main() -> None:
    """Prints the tables."""
    pieces = list(deltas())
    with tempfile.TemporaryDirectory() as directory:
        shields = _shields(Path(directory))
        table = Table("shield", "µs a delta", "held, mean", "held, most")
        for name, shield in shields.items():
            seconds = min(asyncio.run(_processor_time(shield, pieces)) for _ in range(ROUNDS))
            held = asyncio.run(_held(shield, pieces))
            per_delta = seconds / (TURNS * len(pieces)) * 1e6
            table.add_row(name, f"{per_delta:.2f}", f"{sum(held) / len(held):.0f}", str(max(held)))
        Console().print(table)
    one, many = (min(asyncio.run(_slow(count)) for _ in range(ROUNDS)) for count in (1, SIDE_BY_SIDE))
    Console().print(
        f"{SIDE_BY_SIDE} shields of {SLOW * 1e3:.0f} ms side by side take {many / one:.2f} times the time of one"
    )


def _shields(directory: Path) -> dict[str, SlowShield]:
    model = make_pipeline(HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5)), SGDClassifier(loss="log_loss"))
    skops.io.dump(model.fit(["you are rude", "you are kind"] * 8, ["rude", "kind"] * 8), directory / "it.skops")
    catalogue = Catalogue(capacity=4, default_timeout=60.0, means=Means(ModelFiles(directory)))
    classifier = {"path": "it.skops", "labels": {"rude": "rude"}, "min_score": 1.0}
    specs = (
        policy_pb2.ShieldSpec(name=name, type=name, action=policy_pb2.ACTION_REDACT, options=struct(options))
        for name, options in (("injection", {"min_score": 1.0}), ("classifier", classifier))
    )
    return {spec.name: shield for spec in specs if isinstance(shield := catalogue.build(spec), SlowShield)}


async def _processor_time(shield: Shield, pieces: Sequence[str]) -> float:
    """Of several turns side by side."""
    began = time.process_time()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(TURNS):
            tasks.create_task(_turn(shield, pieces))
    return time.process_time() - began


async def _turn(shield: Shield, pieces: Sequence[str]) -> None:
    with ShieldSpans([shield]) as spans:
        async with Inspection([shield], spans) as inspection:
            for piece in pieces:
                await inspection.put(piece, end=False)
                await inspection.room()
                await asyncio.sleep(0)
            await inspection.inspect("")


async def _held(shield: SlowShield, pieces: Sequence[str]) -> list[int]:
    """What waits after each delta when the model has answered: what the windows alone hold."""
    held: list[int] = []
    seen = 0
    async with shield.lane() as lane:
        for piece in pieces:
            seen += len(piece)
            held.append(seen - (await lane.feed(piece, end=False)).watermark)
    return held


async def _slow(count: int) -> float:
    """Seconds until so many slow shields have looked at one window."""

    def model(texts: Sequence[str]) -> Sequence[float]:
        time.sleep(SLOW)
        return [0.0] * len(texts)

    shields = [_asking(f"slow{number}", Batcher(model, name=f"slow{number}")) for number in range(count)]
    began = time.perf_counter()
    with ShieldSpans(shields) as spans:
        async with Inspection(shields, spans) as inspection:
            await inspection.inspect("A sentence.")
    return time.perf_counter() - began


def _asking(name: str, batcher: Batcher[float]) -> Shield:
    async def look(text: str) -> Sequence[Seen]:
        await batcher.ask(text)
        return []

    rules = Rules(name, policy_pb2.ACTION_BLOCK, {}, fails_open=False, timeout=60.0, kind="window")
    return WindowShield(rules, look, Window())


if __name__ == "__main__":
    main()
