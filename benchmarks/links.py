"""What links between services would gain, reckoned from what a hop was seen to cost. Pure."""

from dataclasses import dataclass
from typing import Final, Self

from . import results
from .plan import OURS
from .results import Results

INNER: Final = 4
"""Messages of a token between services; the fifth is the gateway's to the client, which links leave alone."""
STEP: Final = 0.002
"""Seconds in which tokens gather while a writer is busy."""
RATE: Final = 6_400
"""Tokens per second of the scenario `paced`."""


@dataclass(frozen=True, slots=True)
class Links:
    """Microseconds for a token, and the size of a batch."""

    now: float
    shared: float
    """Tokens that share a message without links: several, on a machine that is full."""
    inner: float
    """Of what a token costs, what messages between services do."""
    batch: float
    """Tokens that would share one."""
    batched: float
    """What messages between services would cost."""
    after: float

    @classmethod
    def of(cls, seen: Results) -> Self | None:
        """None when the run lacks the mesh or the bare hop."""
        now = seen.range(OURS, "paced", results.cpu_per_token)
        hop = seen.range("hop", "paced", results.cpu_per_token)
        if now is None or hop is None:
            return None
        shared = seen.range(OURS, "paced", results.together)
        together = 1.0 if shared is None else max(1.0, shared.middle)
        inner = min(INNER * hop.middle / together, now.middle)
        batch = max(RATE * STEP, together)
        batched = inner * together / batch
        return cls(now.middle, together, inner, batch, batched, now.middle - inner + batched)
