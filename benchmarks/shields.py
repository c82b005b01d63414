"""What the match shields cost and hold on prose: `python -m benchmarks.shields`.

The text is Python's own reference (`pydoc_data.topics`), 200,000 characters of English with code and numbers in it, in
deltas of five characters. Times are the processor's, the least of several rounds.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from pydoc_data.topics import topics
from random import Random
from typing import Final, NamedTuple

from rich.console import Console
from rich.table import Table

from services.shield.catalogue import Catalogue
from services.shield.shield import Shield
from shieldmesh.profile import struct
from shieldmesh.profile.options import SHIELD_TYPES
from shieldmesh.v1 import policy_pb2

CHARACTERS: Final = 200_000
DELTA: Final = 5
ROUNDS: Final = 15
BUFFER: Final = 200
"""Tokens that a guard collects which checks in batches: the usual way elsewhere."""


class Cost(NamedTuple):
    """What one way of guarding costs: seconds a delta, and code points held after a delta."""

    name: str
    seconds: float
    held_mean: float
    held_most: int


def main() -> None:
    """Prints the table."""
    pieces = list(deltas())
    shields = {name: [_shield(name)] for name in sorted(SHIELD_TYPES) if SHIELD_TYPES[name].kind == "match"}
    shields["deny_list, 5,000 terms"] = [_shield("deny_list", terms=_words(5_000))]
    shields["all types together"] = [_shield(name) for name in sorted(SHIELD_TYPES) if name in shields]
    table = Table("shield", "µs a delta", "held, mean", "held, most")
    for cost in [*(_measure(name, each, pieces) for name, each in shields.items()), _buffer(len(pieces))]:
        table.add_row(cost.name, f"{cost.seconds * 1e6:.2f}", f"{cost.held_mean:.2f}", str(cost.held_most))
    Console().print(table)


def deltas() -> Iterator[str]:
    """The text in pieces."""
    text = "".join(topics.values())[:CHARACTERS]
    return (text[start : start + DELTA] for start in range(0, len(text), DELTA))


def _measure(name: str, shields: Sequence[Shield], deltas: Sequence[str]) -> Cost:
    seconds = min(_round(shields, deltas) for _ in range(ROUNDS))
    lanes = [shield.lane() for shield in shields]
    held = list[int]()
    for number, delta in enumerate(deltas):
        held.append((number + 1) * DELTA - min(lane.feed(delta, end=False).watermark for lane in lanes))
    return Cost(name, seconds / len(deltas), sum(held) / len(held), max(held))


def _round(shields: Sequence[Shield], deltas: Sequence[str]) -> float:
    feeds: list[Callable[..., object]] = [shield.lane().feed for shield in shields]
    began = time.thread_time()
    for delta in deltas:
        for feed in feeds:
            feed(delta, end=False)
    return time.thread_time() - began


def _buffer(deltas: int) -> Cost:
    held = [(number + 1) % BUFFER * DELTA for number in range(deltas)]
    return Cost(f"a buffer of {BUFFER} tokens", 0.0, sum(held) / len(held), max(held))


def _shield(name: str, **options: object) -> Shield:
    given = options or _OPTIONS.get(name, {})
    spec = policy_pb2.ShieldSpec(name=name, type=name, action=policy_pb2.ACTION_REDACT, options=struct(given))
    return Catalogue(capacity=1, default_timeout=1.0).build(spec)


def _words(count: int) -> list[str]:
    """Words that nobody says."""
    random = Random(1)
    return ["".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=8)) for _ in range(count)]


_OPTIONS: Final[dict[str, dict[str, object]]] = {
    "pii": {"region": "US"},
    "deny_list": {"terms": ["project bluebird", "operation nightfall"]},
}


if __name__ == "__main__":
    main()
