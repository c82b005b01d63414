"""What happens to a system: turns that arrive, and the window of time that is looked at."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from types import MappingProxyType
from typing import Final

from .engine import Engine
from .load import evenly


class Alone(Enum):
    """When as many turns are asked of the engine alone, to see what a system adds."""

    NEVER = auto()
    BESIDE = auto()
    """In the same window; for loads that take next to nothing."""
    BEFORE = auto()
    """In a window of its own."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Turns for an engine."""

    name: str
    meaning: str
    engine: Engine
    streams: int
    """Turns that arrive over the first `ramp` seconds, and again over each such span that follows."""
    ramp: float
    once: bool = False
    """Nothing arrives after the first ramp."""
    warm: float = 0.5
    """Seconds after the first ramp before the window begins."""
    window: float = 4.0
    alone: Alone = Alone.NEVER
    counts_memory: bool = False
    """Whether enough streams stay open to say what one takes."""

    @property
    def seconds(self) -> float:
        """From the first arrival to the window's end."""
        return self.ramp + self.warm + self.window

    def arrivals(self, begin: float, seed: int = 1) -> list[float]:
        """When turns are due, the first ramp beginning at `begin`."""
        if self.once:
            return evenly(self.streams, begin=begin, seconds=self.ramp, seed=seed)
        count = max(1, round(self.streams * self.seconds / self.ramp))
        return evenly(count, begin=begin, seconds=self.seconds, seed=seed)

    def stretched(self, factor: float) -> "Scenario":
        """The same with a window `factor` times as long."""
        return replace(self, window=self.window * factor)


def _paced(name: str, streams: int, *, tokens: int = 250, pace: float = 50.0) -> Scenario:
    """By Little's law, `streams` are open when as many arrive in the time that one takes."""
    meaning = f"{streams:,} open streams at {pace:g} tokens/s, {tokens:,} tokens a turn"
    return Scenario(name, meaning, Engine(tokens, pace), streams=streams, ramp=tokens / pace)


SWEEP: Final = tuple(_paced(f"sweep-{streams}", streams, tokens=30, pace=10.0) for streams in (1, 8, 64, 512))
"""The same turns from 1 stream to 512, at a pace that two cores can follow."""

_ALL: Final = (
    Scenario(
        "steady",
        "16 open streams at 50 tokens/s, none of which begins or ends meanwhile",
        Engine(600, 50.0),
        streams=16,
        ramp=1.0,
        once=True,
    ),
    _paced("paced", 128),
    Scenario(
        "saturated",
        "32 streams that are offered 4,000 tokens/s each",
        Engine(60_000, 4_000),
        streams=32,
        ramp=0.5,
        once=True,
        warm=1.5,
        window=4.0,
    ),
    Scenario(
        "latency",
        "5 turns/s of 5 tokens, and as many of the engine alone",
        Engine(5),
        streams=5,
        ramp=1.0,
        window=5.0,
        alone=Alone.BESIDE,
    ),
    Scenario("short", "40 turns/s of 10 tokens", Engine(10), streams=40, ramp=1.0),
    Scenario(
        "long",
        "8 streams of turns of 4,000 tokens at 800 tokens/s",
        Engine(4_000, 800),
        streams=8,
        ramp=5.0,
    ),
    Scenario(
        "idle",
        "300 open streams of a token in 20 s",
        Engine(250, 0.05),
        streams=300,
        ramp=8.0,
        once=True,
        warm=1.0,
        window=3.0,
        counts_memory=True,
    ),
    Scenario(
        "idle-2000",
        "2,000 open streams of a token in 20 s",
        Engine(250, 0.05),
        streams=2_000,
        ramp=30.0,
        once=True,
        warm=1.0,
        window=5.0,
        counts_memory=True,
    ),
    Scenario(
        "real",
        "4 streams of SmolLM2-135M in llama.cpp that generate all the time, through the mesh and alone",
        Engine(1_000, real=True),
        streams=4,
        ramp=0.5,
        once=True,
        warm=1.5,
        window=6.0,
        alone=Alone.BEFORE,
    ),
    *SWEEP,
)
ALL: Final[Mapping[str, Scenario]] = MappingProxyType({scenario.name: scenario for scenario in _ALL})
"""By name."""
