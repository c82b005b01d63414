"""Deadlines travel: each hop works with what its caller has left, less a margin for the answer's way back."""

import asyncio
import math
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final

from shieldmesh import context
from shieldmesh.errors import DeadlineExceededError
from shieldmesh.interceptors.call import ClientCall, ServerCall
from shieldmesh.interceptors.limit import Limit

LARGEST_MARGIN = 0.05
"""Seconds kept back at most; 5 % of short deadlines."""


def serve(call: ServerCall) -> AbstractContextManager[None]:
    """Ends the handler before its caller gives up, so that the caller hears a typed error and not silence."""
    allowed = min(call.server.call_cap, math.inf if call.time_remaining is None else call.time_remaining)
    # What the caller allows was read when the call began: what other interceptors took since then is part of it.
    return _Within(call, allowed - min(LARGEST_MARGIN, allowed * 0.05))


class _Within(Limit):
    __slots__ = ("_alarm", "_allowed", "_identity")

    def __init__(self, call: ServerCall, allowed: float) -> None:
        super().__init__(call)
        self._allowed = allowed
        self._identity = context.use(context.current().until(call.started + allowed))

    def __enter__(self) -> None:
        ours = self._identity.__enter__()
        self._alarm = asyncio.get_running_loop().call_later(ours.remaining() or 0.0, self.end)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None
    ) -> None:
        self._alarm.cancel()
        self._identity.__exit__(kind, error, place)
        if self.is_why(kind):
            raise DeadlineExceededError(f"the call did not finish within its {self._allowed:.2f} s") from error


def send(call: ClientCall) -> None:
    """Gives the call what is left of the current deadline, or the shorter timeout it asked for.

    Raises:
        DeadlineExceededError: nothing is left; the call is not made.
    """
    allowed = context.current().remaining()
    if allowed == 0:
        raise DeadlineExceededError("the deadline passed before the next service could be called")
    if allowed is None or (call.timeout is not None and call.timeout < allowed):
        allowed = call.timeout
    call.timeout = None if allowed is None else _sayable(allowed)


# gRPC's core writes timeouts into its header with three digits or so: those below `limit` in steps.
_STEPS: Final = tuple((10.0**digits, 10.0 ** (digits - 3)) for digits in range(1, 8))


def _sayable(timeout: float) -> float:
    """The longest timeout up to this one that gRPC's header can say.

    gRPC rounds up: the next hop would think that it has up to a second more than it has, and outlast its caller, who
    would then hear of a deadline and not of who missed it.
    """
    for limit, step in _STEPS:
        if 1 <= timeout < limit:
            # The last millisecond is taken off again: what lies a little above a step is rounded up to the next.
            return math.floor(timeout / step) * step - 0.001
    return timeout
