"""The time that a stream may wait for slow shields, and what happens when it is spent."""

import asyncio
from collections.abc import Iterable
from typing import Final

from shieldmesh.errors import InvalidArgumentError
from shieldmesh.v1 import shield_pb2

from .inspection import Inspection

ERROR: Final = "LATENCY_BUDGET"


class LatencyBudget:
    """Adds up the time in which text waits for slow shields alone, and acts once when it has waited enough.

    Attributes:
        spent: Whether it is spent.
    """

    def __init__(self, given: shield_pb2.LatencyBudget, inspections: Iterable[Inspection]) -> None:
        """Watches `inspections`, a view to which lanes are added.

        Raises:
            InvalidArgumentError: the budget's time is not over 0, or the action is not known.
        """
        self.spent = False
        self._left = given.time.seconds + given.time.nanos / 1e9
        if not self._left > 0:
            raise _wrong("time", "a latency budget is over 0 seconds; leave it out to wait as long as shields take")
        if given.over not in shield_pb2.OverBudget.values():
            raise _wrong("over", "expected hold, degrade or fail")
        self._over = given.over
        self._inspections = inspections
        self._loop = asyncio.get_running_loop()
        self._since = 0.0
        self._alarm: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """To be called when something has changed: looks whether text waits now."""
        waits = not self.spent and any(each.waited_for() for each in self._inspections)
        if waits and self._alarm is None:
            self._since = self._loop.time()
            self._alarm = self._loop.call_later(self._left, self._act)
        elif not waits and self._alarm is not None:
            self._left -= self._loop.time() - self._since
            self.close()

    def admit(self, inspection: Inspection) -> None:
        """Has a lane that begins after the budget was spent wait for no slow shield, if that is what was asked."""
        if self.spent and self._over == shield_pb2.OVER_BUDGET_DEGRADE:
            for number in inspection.slow():
                inspection.relax(number, ERROR)

    def close(self) -> None:
        """Stops the clock."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _act(self) -> None:
        self.spent = True
        self._alarm = None
        for inspection in self._inspections:
            for number in inspection.waited_for():
                match self._over:
                    case shield_pb2.OVER_BUDGET_DEGRADE:
                        inspection.relax(number, ERROR)
                    case shield_pb2.OVER_BUDGET_FAIL:
                        inspection.end(number, ERROR)
                    case _:
                        inspection.remark(number, ERROR)


def _wrong(field: str, message: str) -> InvalidArgumentError:
    place = f"open.latency_budget.{field}"
    return InvalidArgumentError(f"{place}: {message}", field=place)
