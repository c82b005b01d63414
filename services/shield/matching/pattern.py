"""What a match shield looks for: one kind of finding, as a bounded regular language between boundaries."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from .automaton import Automaton


@dataclass(frozen=True, slots=True)
class Pattern:
    """A bounded regular language, what must not touch it, and a check that a regular language cannot make.

    Starts are tried from left to right. A start's match is its longest text in the language, up to `max_length`, that
    `right` does not touch and `valid` accepts; then scanning goes on behind it. So what is a match depends on the
    text alone, never on how it was cut.
    """

    kind: str
    automaton: Automaton
    max_length: int
    """Code points a match may have. It bounds what is held and remembered."""
    left: str = ""
    """The inside of a character class: what must not stand before a match. Nothing else limits where matches start."""
    right: str = ""
    """The inside of a character class: what must not stand behind a match."""
    valid: Callable[[str], bool] | None = None
    longest_only: bool = False
    """Whether `valid` decides about the longest text alone: if it refuses that, nothing shorter is tried."""
    score: float = 1.0
    touches_right: Callable[[str], object] | None = field(init=False, repr=False)
    """Tells whether a character may not stand behind a match."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "touches_right", re.compile(f"[{self.right}]").match if self.right else None)
