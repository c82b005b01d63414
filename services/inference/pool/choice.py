"""Which endpoint of a model a generation goes to. Pure.

Without a session the less loaded of two that chance draws: nearly as even as the least loaded of all, and no herd runs
to it (M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001).

With a session always the same one, whose prefix cache knows the conversation, unless it is clearly busier than the
rest: rendezvous hashing (D. Thaler and C. Ravishankar, 1998) with bounded loads (V. Mirrokni et al., 2018). When an
endpoint leaves, its sessions move, and no others.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from hashlib import blake2b
from typing import Final

SLACK: Final = Fraction(5, 4)
"""How many times the mean load an endpoint may have and still keep its sessions."""

Below = Callable[[int], int]
"""A number by chance, at least 0 and less than the given one."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An endpoint as the choice sees it."""

    name: str
    """The same in every process and after every restart: sessions are bound to it."""
    running: int
    """Generations that it has now."""
    ejected: bool = False
    """Whether it is left alone."""
    tried: bool = False
    """Whether this generation has failed there."""


def choose(candidates: Sequence[Candidate], session: str, below: Below) -> Candidate | None:
    """The endpoint to ask; None when all are left alone.

    Args:
        candidates: All endpoints.
        session: Whose conversation it is; "" for nobody's.
        below: Where chance comes from.
    """
    able = [each for each in candidates if not each.ejected]
    able = [each for each in able if not each.tried] or able
    # 1. nobody, 2. no choice, 3. the session's own, 4. by load
    if len(able) < 2:
        return able[0] if able else None
    if session:
        return _preferred(able, session)
    first = below(len(able))
    second = (first + 1 + below(len(able) - 1)) % len(able)
    return min(able[first], able[second], key=lambda each: each.running)


def bound(running: int, endpoints: int) -> int:
    """The generations that one of so many endpoints may have when there is one more than `running` in all."""
    return math.ceil(SLACK * (running + 1) / endpoints)


def _preferred(able: Sequence[Candidate], session: str) -> Candidate:
    """The first in the session's own order that has room; one always has."""
    most = bound(sum(each.running for each in able), len(able))
    roomy = [each for each in able if each.running < most]
    return max(roomy, key=lambda each: _rank(each.name, session))


def _rank(name: str, session: str) -> bytes:
    return blake2b(session.encode(), key=blake2b(name.encode()).digest(), digest_size=8).digest()
