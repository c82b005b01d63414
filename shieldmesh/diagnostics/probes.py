"""How the held probes of this process ended."""

import time
from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, TypeAlias

from shieldmesh.errors import ResourceExhaustedError
from shieldmesh.v1 import diagnostics_pb2

Reason: TypeAlias = "diagnostics_pb2.ProbeEndReason.ValueType"  # exists for type checkers alone

KEPT: Final = 64
"""Probes that are remembered, and that may be held at the same time."""

_EARLY: Final = 0.01
"""Seconds that a timer may fire before its time: event loops count in milliseconds."""


class ProbeLog:
    """Remembers the last probes that were held here, and those that still are."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._held = 0
        self._reasons: OrderedDict[str, Reason] = OrderedDict()

    @contextmanager
    def holding(self, probe_id: str, deadline: float | None) -> Generator[None]:
        """Around a held probe: its end, whatever brings it, is a deadline's or a cancellation.

        Args:
            probe_id: Its name.
            deadline: When it must have ended, on `time.monotonic()`'s clock; None: never.

        Raises:
            ResourceExhaustedError: too many are held.
        """
        if self._held >= self._kept:
            raise ResourceExhaustedError(
                f"{self._held} probes are held here already: wait until they end", reason="TOO_MANY_PROBES"
            )
        self._held += 1
        self._remember(probe_id, diagnostics_pb2.PROBE_END_REASON_UNSPECIFIED)
        try:
            yield
        finally:
            self._held -= 1
            passed = deadline is not None and time.monotonic() >= deadline - _EARLY
            self._remember(
                probe_id,
                diagnostics_pb2.PROBE_END_REASON_DEADLINE if passed else diagnostics_pb2.PROBE_END_REASON_CANCELLED,
            )

    def ending(self, probe_id: str) -> "Reason | None":
        """How the probe ended, unspecified while it is held, None when it is not known."""
        return self._reasons.get(probe_id)

    def _remember(self, probe_id: str, reason: "Reason") -> None:
        self._reasons[probe_id] = reason
        self._reasons.move_to_end(probe_id)
        while len(self._reasons) > self._kept:
            self._reasons.popitem(last=False)
