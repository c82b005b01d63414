"""What looks at windows, and what it says about one."""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, TypeAlias


class Seen(NamedTuple):
    """Something that a model saw in a window."""

    kind: str
    score: float
    """How sure it is, 0 to 1."""


Look: TypeAlias = Callable[[str], Awaitable[Sequence[Seen]]]
"""Looks at one window. Called for several at the same time; what it says depends on the window alone.

Raises:
    ShieldError: it could not look.
"""
