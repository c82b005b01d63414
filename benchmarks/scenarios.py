"""What is measured: engines, and turns that arrive."""

from dataclasses import dataclass, replace
from typing import Final

from .load import evenly
from .testbed import Engine


@dataclass(frozen=True, slots=True)
class Scenario:
    """Turns for an engine, and the window of time that is looked at."""

    name: str
    meaning: str
    engine: Engine
    streams: int
    """Turns that arrive over the first `ramp` seconds, and again over each such span that follows."""
    ramp: float
    once: bool = False
    """Nothing arrives after the first ramp."""
    warm: float = 0.0
    """Seconds after the first ramp before the window begins."""
    window: float = 10.0
    alone: bool = False
    """As many turns are asked of the engine alone, in the same window, to see what the mesh adds."""
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
        count = round(self.streams * self.seconds / self.ramp)
        return evenly(count, begin=begin, seconds=self.seconds, seed=seed)

    def quick(self) -> "Scenario":
        """The same with a shorter window."""
        return replace(self, window=self.window / 2)


def _paced(streams: int, *, tokens: int = 250, pace: float = 50.0) -> Scenario:
    """By Little's law, `streams` are open when as many arrive in the time that one takes."""
    return Scenario(
        "paced",
        f"{streams} open streams at {pace:g} tokens/s, {tokens} tokens a turn",
        Engine(tokens, pace),
        streams=streams,
        ramp=tokens / pace,
        warm=1.0,
    )


ALL: Final = (
    _paced(128),
    Scenario(
        "saturated",
        "32 streams that are offered 4,000 tokens/s each",
        Engine(60_000, 4_000),
        streams=32,
        ramp=0.5,
        once=True,
        warm=2.0,
        window=8.0,
    ),
    Scenario(
        "latency",
        "5 turns/s of 5 tokens, and as many of the engine alone",
        Engine(5, 0),
        streams=5,
        ramp=1.0,
        warm=2.0,
        window=20.0,
        alone=True,
    ),
    Scenario("short", "40 turns/s of 10 tokens", Engine(10, 0), streams=40, ramp=1.0, warm=2.0),
    Scenario(
        "idle",
        "500 open streams of a token in 20 s",
        Engine(250, 0.05),
        streams=500,
        ramp=15.0,
        once=True,
        warm=5.0,
        window=10.0,
        counts_memory=True,
    ),
)
