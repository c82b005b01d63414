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
_FOLLOWED: Final = 0.9
"""From which share of what was asked for a load was followed."""
RETENTION: Final = 3_600
"""Seconds that a turn is kept after its end: the default."""


@dataclass(frozen=True, slots=True)
class Need:
    """What so many streams need."""

    streams: int
    tokens: float
    """Per second."""
    cores: float
    """Where each token travels alone, as it does where there is room."""
    full_cores: float
    """Where the machines are full and tokens share messages, as in the scenario `paced`."""
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
    """Seconds for each of its tokens that travels alone."""
    shared: float
    """Seconds for each of its tokens where the machine is full and some share a message."""
    stream: float
    """Bytes of memory while it is open."""
    checks: Sequence[Check]

    @classmethod
    def of(cls, seen: Results) -> Self | None:
        """The costs that a run shows; None when it lacks one of the scenarios that they follow from."""
        alone = seen.range(OURS, "steady", results.cpu_per_token)
        short = seen.range(OURS, "short", results.cpu_per_token)
        full = seen.range(OURS, "paced", results.cpu_per_token)
        stream = seen.range(OURS, "idle-2000", results.memory_per_stream)
        if alone is None or short is None or full is None or stream is None:
            return None
        # In `steady` no turn begins or ends: what a token of `short` costs beyond that is its share of a turn.
        token = alone.middle * 1e-6
        turn = (short.middle * 1e-6 - token) * ALL["short"].engine.tokens
        shared = full.middle * 1e-6 - turn / ALL["paced"].engine.tokens
        return cls(turn, token, shared, stream.middle * 1024, tuple(_checks(seen, turn, token)))

    def need(self, streams: int) -> Need:
        """What so many streams need at `PACE`, with turns of `TOKENS`, all of them generating all the time."""
        tokens = streams * PACE
        return Need(
            streams=streams,
            tokens=tokens,
            cores=tokens * self.token + tokens / TOKENS * self.turn,
            full_cores=tokens * self.shared + tokens / TOKENS * self.turn,
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
    """Of loads that the machine could follow: what a full one leaves undone costs nothing."""
    for scenario in SWEEP:
        rate = scenario.streams * scenario.engine.pace
        cores = seen.range(OURS, scenario.name, lambda each: each.system.cores)
        delivered = seen.range(OURS, scenario.name, results.tokens_per_second)
        if cores is not None and delivered is not None and delivered.middle >= _FOLLOWED * rate:
            yield Check(scenario.streams, rate * token + rate / scenario.engine.tokens * turn, cores.middle)
