"""A caller that stays and reads nothing: noticed by the time in which it takes none of what it is given."""

import asyncio
from collections.abc import Callable

import structlog
from opentelemetry import trace

from shieldmesh.metrics import instruments
from shieldmesh.profile.policy import Stall
from shieldmesh.telemetry import Name

_log = structlog.stdlib.get_logger("shieldmesh.turn")


class StallWatch:
    """Watches one caller. An event costs it two assignments: its timer looks at the last one when it is due."""

    def __init__(self, seconds: float, stalled: Callable[[], object]) -> None:
        """`stalled` is called once for each event that is not taken for so long."""
        self._loop = asyncio.get_running_loop()
        self._seconds = seconds
        self._stalled = stalled
        self._given = 0.0
        """When the caller was given what it has not taken; 0: it has taken all."""
        self._timer: asyncio.TimerHandle | None = None

    def gave(self) -> None:
        """The caller is given something."""
        self._given = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._look)

    def taken(self) -> None:
        """It has taken it."""
        self._given = 0.0

    def close(self) -> None:
        """Watches no longer."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        if not self._given:
            return
        left = self._given + self._seconds - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self._stalled()


def tell(profile: str, stall: Stall, sequence: int) -> None:
    """Says that a caller stalls, in the log, the metrics and the span of its call."""
    meters = instruments()
    meters.stalls.add(1, meters.labels({Name.PROFILE: profile, Name.STALL: stall.then}))
    trace.get_current_span().set_attribute(Name.STALL, stall.then)
    _log.warning("caller stalled", profile=profile, seconds=stall.after, then=stall.then, sequence=sequence)
