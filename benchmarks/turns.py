"""What became of turns, as a client saw it. Times are `time.monotonic()`'s, which processes of a machine share."""

from array import array
from dataclasses import dataclass, field


@dataclass(slots=True)
class Turn:
    """What became of one turn."""

    due: float
    events: list[tuple[float, bytes]] = field(default_factory=list[tuple[float, bytes]])
    """Messages that were not read yet, and when each came."""
    times: "array[float]" = field(default_factory=lambda: array("d"))
    """When each delta came."""
    tokens: "array[int]" = field(default_factory=lambda: array("L"))
    """How many tokens it brought."""
    finished: float | None = None
    error: str = ""
    """The status of a turn that failed."""
    failed: float | None = None
    """When it failed; None where the client does not say."""
    held: int = 0
    """The most characters that shields held at one time, as the mesh says itself."""
