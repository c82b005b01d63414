"""How much a number of streams needs, reckoned from what a turn and a token were seen to cost. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

from . import results
from .plan import OURS
from .results import Results
from .scenarios import ALL, SWEEP

PACE: Final = 50.0
"""Tokens per second of a stream."""
TOKENS: Final = 250
"""Of a turn."""
STREAMS: Final = (128, 10_000, 1_000_000)
APPENDS: Final = 100_000
"""What one Redis server is taken to take in a second, when writers send several at once: an assumption."""
LOG_BYTES: Final = 160
"""Of a delta in the log of a turn, in a Redis stream: its entry, and its share of what keeps them together. Assumed."""
RETENTION: Final = 3_600
"""Seconds that a turn is kept after its end: the default."""


@dataclass(frozen=True, slots=True)
class Need:
    """What so many streams need."""

    streams: int
    tokens: float
    """Per second."""
    cores: float
    memory: float
    """GiB of the services."""
    appends: float
    """To the log, per second."""
    redis: int
    """Servers that take these appends."""
    kept: float
    """GiB in Redis."""


@dataclass(frozen=True, slots=True)
class Check:
    """What the model says of a load that was measured, too."""

    streams: int
    reckoned: float
    """Cores."""
    measured: float
    """Cores."""


@dataclass(frozen=True, slots=True)
class Model:
    """Costs that add up."""

    turn: float
    """Seconds of processor time for a turn, whatever its length."""
    token: float
    """Seconds for each of its tokens."""
    stream: float
    """Bytes of memory while it is open."""
    checks: Sequence[Check]

    @classmethod
    def of(cls, seen: Results) -> Self | None:
        """The costs that a run shows; None when it lacks one of the scenarios that they follow from."""
        long = seen.range(OURS, "paced", results.cpu_per_token)
        short = seen.range(OURS, "short", results.cpu_per_token)
        stream = seen.range(OURS, "idle-2000", results.memory_per_stream)
        if long is None or short is None or stream is None:
            return None
        # Two turns of different length: cost = turn + tokens x token, twice.
        few, many = ALL["short"].engine.tokens, ALL["paced"].engine.tokens
        turn = (short.middle - long.middle) / (1 / few - 1 / many) * 1e-6
        token = long.middle * 1e-6 - turn / many
        return cls(turn, token, stream.middle * 1024, tuple(_checks(seen, turn, token)))

    def need(self, streams: int) -> Need:
        """What so many streams need at `PACE`, with turns of `TOKENS`, all of them generating all the time."""
        tokens = streams * PACE
        return Need(
            streams=streams,
            tokens=tokens,
            cores=tokens * self.token + tokens / TOKENS * self.turn,
            memory=streams * self.stream / 2**30,
            appends=tokens,
            redis=-int(-tokens // APPENDS),
            kept=tokens * RETENTION * LOG_BYTES / 2**30,
        )

    @property
    def needs(self) -> Sequence[Need]:
        """For every one of `STREAMS`."""
        return [self.need(streams) for streams in STREAMS]


def _checks(seen: Results, turn: float, token: float) -> Iterator[Check]:
    for scenario in SWEEP:
        cores = seen.range(OURS, scenario.name, lambda each: each.system.cores)
        if cores is not None:
            rate = scenario.streams * scenario.engine.pace
            yield Check(scenario.streams, rate * token + rate / scenario.engine.tokens * turn, cores.middle)
