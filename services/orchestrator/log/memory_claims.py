"""Which turn each idempotency key stands for, in the memory of one process, and bounded."""

import time
from collections import OrderedDict
from typing import Final

from .turn_log import Claim

CLAIM_BYTES: Final = 768
"""What a claim takes."""


class Claims:
    """The claims of a log."""

    def __init__(self, window: float, memory: int) -> None:
        """Makes an empty one.

        Args:
            window: Seconds that a claim holds.
            memory: Bytes that claims take at most; more than that, and the oldest are forgotten.
        """
        self._window = window
        self._most = max(1, memory // CLAIM_BYTES)
        self._claims: OrderedDict[str, tuple[Claim, float]] = OrderedDict()
        """With the times when they are over, in that order."""

    def claim(self, key: str, ours: Claim) -> Claim:
        """The claim on a key: this one, unless there is an earlier one whose time is not over."""
        now = time.monotonic()
        earlier = self._claims.get(key)
        if earlier is not None:
            claim, over = earlier
            if over > now:
                return claim
            del self._claims[key]
        self._claims[key] = ours, now + self._window
        if len(self._claims) > self._most:
            self._claims.popitem(last=False)
        return ours

    def expire(self) -> None:
        """Forgets those whose time is over."""
        now = time.monotonic()
        while self._claims and next(iter(self._claims.values()))[1] <= now:
            self._claims.popitem(last=False)
