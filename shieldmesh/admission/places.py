"""A limit of running work with a bounded, fair and deadline-aware queue before it."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from shieldmesh import context
from shieldmesh.admission.fair_queue import FairQueue
from shieldmesh.errors import DeadlineExceededError, ResourceExhaustedError
from shieldmesh.metrics import instruments
from shieldmesh.telemetry import Name

MAX_RUNNING: Final = 4_096
MAX_WAITING: Final = 512

NOBODY: Final = "none"
"""What metrics call the tenant of callers that nobody has authenticated."""

_WEIGHT_OF_NEWEST: Final = 0.2
_FIRST_GUESS: Final = 1.0
_RETRY_BOUNDS: Final = (0.1, 60.0)
_JITTER: Final = (0.5, 1.5)


class Places:
    """The places of one server or model. Belongs to one event loop, from its first use on.

    While there are free places, everybody gets one. When there are none, tenants wait in a queue that is fair between
    them by their weights: each gets its share of the places that come free, and of the room in the queue. Callers that
    nobody has authenticated are one tenant together: sessions cost nothing to make up, so a share for each would be a
    share for whoever makes up most.

    Attributes:
        name: What it is called in messages and metrics.
        running: Places that are taken.
        max_running: How many there are.
    """

    def __init__(
        self,
        name: str,
        *,
        max_running: int = MAX_RUNNING,
        max_waiting: int = MAX_WAITING,
        weights: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """`weights` are the tenants' shares against each other; 1 for those that are not named."""
        self.name = name
        self.running = 0
        self.max_running = max_running
        self._queue: FairQueue[_Waiter] = FairQueue(max_waiting, weights)
        self._typical_seconds: float | None = None
        """How long a place was held lately; None before the first was free again."""

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return len(self._queue)

    @asynccontextmanager
    async def place(self) -> AsyncGenerator[float, None]:
        """Holds a place inside the block; yields the seconds that were waited for it.

        Raises:
            ResourceExhaustedError: see `enter`.
        """
        place = await self.enter()
        try:
            yield place.waited
        finally:
            place.leave()

    async def enter(self) -> "Place":
        """A place for the current call's tenant, to be left.

        Raises:
            ResourceExhaustedError: no place is free, and the queue has no room for this tenant (QUEUE_FULL) or is
                longer than the deadline allows (DEADLINE_TOO_SHORT); `retry_after` says when to come back.
            DeadlineExceededError: the deadline passed in the queue.
        """
        asked = time.monotonic()
        if self.running < self.max_running:
            self.running += 1
        else:
            await self._wait(context.current())
        place = Place(self, time.monotonic() - asked)
        instruments().queued.record(place.waited, self._labels())
        return place

    async def _wait(self, caller: context.RequestContext) -> None:
        self._check_deadline(caller)
        waiter = _Waiter(caller.deadline)
        displaced = self._queue.put(caller.tenant_id, waiter)
        if displaced is waiter:
            raise self._refused(f"{self.name} is busy: {self.running} run and {self.waiting} wait", "QUEUE_FULL")
        if displaced is not None and not displaced.given.done():
            displaced.given.set_exception(_Displaced())
        self.note_waiting()
        try:
            await waiter.given
        except _Displaced:
            message = f"{self.name} is busy, and the place in the queue went to a tenant that has fewer"
            raise self._refused(message, "QUEUE_FULL") from None
        except asyncio.CancelledError:
            if not self._queue.remove(caller.tenant_id, waiter) and waiter.has_place:
                # The place came in the same moment as the cancellation: it goes on to the next.
                self._pass_on()
            raise

    def note_waiting(self) -> None:
        """Called in the context of each caller that begins to wait, itself among the `waiting`; does nothing here."""

    def left(self, held: float) -> None:
        """A place that was held for so many seconds is free: for `Place` to call."""
        before = held if self._typical_seconds is None else self._typical_seconds
        self._typical_seconds = before + _WEIGHT_OF_NEWEST * (held - before)
        self._pass_on()

    def _pass_on(self) -> None:
        if self._queue.take(_Waiter.accept) is None:
            self.running -= 1

    def _check_deadline(self, caller: context.RequestContext) -> None:
        remaining = caller.remaining()
        if remaining is None or self._typical_seconds is None:
            return
        expected = self._seconds_for(self._queue.ahead(caller.tenant_id) + 1)
        if remaining < expected:
            message = f"{self.name} is busy: the wait of about {expected:.1f} s is longer than the deadline allows"
            raise self._refused(message, "DEADLINE_TOO_SHORT")

    def _seconds_for(self, number: int) -> float:
        """Until so many places have come free, by what was seen lately."""
        typical = _FIRST_GUESS if self._typical_seconds is None else self._typical_seconds
        return number * typical / self.max_running

    def _refused(self, what: str, reason: str) -> ResourceExhaustedError:
        instruments().refusals.add(1, self._labels() | {Name.REASON: reason})
        lowest, highest = _RETRY_BOUNDS
        pause = min(highest, max(lowest, self._seconds_for(self.waiting + 1)))
        # By chance: all that are refused in one moment must not come back in one.
        pause *= random.uniform(*_JITTER)  # noqa: S311  # no secret
        return ResourceExhaustedError(f"{what}; try again later", reason=reason, retry_after=pause)

    def _labels(self) -> dict[str, str]:
        tenant = context.current().tenant_id or NOBODY
        return dict(instruments().labels({Name.PLACES: self.name, Name.TENANT: tenant}))


class Place:
    """A place that is held until it is left.

    Attributes:
        waited: Seconds that were waited for it.
    """

    def __init__(self, places: Places, waited: float) -> None:
        self.waited = waited
        self._places: Places | None = places
        self._begun = time.monotonic()

    def leave(self) -> None:
        """Gives the place to whoever is next; once is enough."""
        places, self._places = self._places, None
        if places is not None:
            places.left(time.monotonic() - self._begun)


class _Displaced(Exception):  # noqa: N818  # no error: somebody else has the better claim
    """A waiter had to go for another one."""


@dataclass(slots=True, eq=False)
class _Waiter:
    """Somebody who waits for a place."""

    deadline: float | None
    given: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def has_place(self) -> bool:
        """Whether it was given a place."""
        return self.given.done() and not self.given.cancelled() and self.given.exception() is None

    def accept(self) -> bool:
        """Takes a place, if it still has a use for it."""
        if self.given.done():
            return False
        if self.deadline is not None and self.deadline <= time.monotonic():
            self.given.set_exception(DeadlineExceededError("the deadline passed in the queue"))
            return False
        self.given.set_result(None)
        return True
