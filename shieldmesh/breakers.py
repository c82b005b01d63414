"""The memory of a server's failures: one that fails again and again is left alone for a while."""

from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Final

from circuitbreaker import STATE_CLOSED, STATE_HALF_OPEN, CircuitBreaker

from shieldmesh.errors import UnavailableError

REASON: Final = "CIRCUIT_OPEN"


class Breaker:
    """The failures of one server. Belongs to one loop.

    Closed, it lets all attempts pass. After some failures in a row it is open and refuses them; after a pause it lets
    one at a time pass, and the first that is answered closes it.
    """

    def __init__(self, *, failures: int, pause: float, tell: Callable[[bool], None]) -> None:
        """Opens after `failures` in a row, for `pause` seconds; `tell` hears of each change, True when it opens."""
        self._circuit = CircuitBreaker(failure_threshold=failures, recovery_timeout=pause)
        self._tell = tell
        self._told_open = False
        self._trying = False

    @property
    def is_open(self) -> bool:
        """Whether it refuses attempts."""
        return self._circuit.opened or self._trying

    @contextmanager
    def attempt(self) -> Generator[None]:
        """Around the begin of what asks the server. Say if it `answered` and, at its end, `succeeded` or `failed`.

        Raises:
            UnavailableError: it is open; CIRCUIT_OPEN.
        """
        if self.is_open:
            raise self.refusal()
        trying = self._trying = self._circuit.state == STATE_HALF_OPEN
        try:
            yield
        finally:
            if trying:
                self._trying = False

    def refusal(self) -> UnavailableError:
        """The error for what it refuses, with the time to come back; CIRCUIT_OPEN."""
        return UnavailableError(
            "the server failed again and again and is left alone for a while; try again later",
            reason=REASON,
            retry_after=float(max(1, self._circuit.open_remaining)),
        )

    def answered(self) -> None:
        """The server is there again: whoever waits for that need not wait for the whole answer."""
        if self._circuit.state != STATE_CLOSED:
            self.succeeded()

    def succeeded(self) -> None:
        """The server did its part."""
        self._circuit.reset()
        self._trying = False
        self._say()

    def failed(self) -> None:
        """The server could not be reached, went away, or did not do its part."""
        # The library counts what passes through its block.
        with suppress(_FailureError), self._circuit:
            raise _FailureError
        self._say()

    def _say(self) -> None:
        is_open = self._circuit.state != STATE_CLOSED
        if is_open != self._told_open:
            self._told_open = is_open
            self._tell(is_open)


class _FailureError(Exception):
    """Stands for any."""
