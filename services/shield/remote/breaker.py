"""The memory of a remote shield's failures, which the log and a metric tell."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

import structlog

from services.shield.shield import ShieldError
from shieldmesh import breakers
from shieldmesh.errors import UnavailableError
from shieldmesh.metrics import instruments
from shieldmesh.telemetry import Name

UNAVAILABLE: Final = "SHIELD_UNAVAILABLE"

_log = structlog.stdlib.get_logger("shieldmesh.shield")


class TroubleError(ShieldError):
    """A remote is in trouble: it cannot be reached, or has no room, or went away."""


class Breaker:
    """Leaves a remote alone for a while that fails again and again. Belongs to one loop."""

    def __init__(self, url: str, *, failures: int, pause: float) -> None:
        """Opens after `failures` in a row, for `pause` seconds."""
        self._url = url
        self._pause = pause
        self._breaker = breakers.Breaker(failures=failures, pause=pause, tell=self._tell)
        self._measure(is_open=False)

    @contextmanager
    def attempt(self) -> Generator[Callable[[], None]]:
        """Around what asks the remote; gives a function to call whenever it has answered.

        A `TroubleError` or a `TimeoutError` that leaves the block is a failure. Other errors and cancellations say
        nothing about the remote.

        Raises:
            ShieldError: it is open.
        """
        try:
            with self._breaker.attempt():
                yield self._breaker.succeeded
        except UnavailableError:
            raise ShieldError(UNAVAILABLE) from None
        except (TroubleError, TimeoutError):
            self._breaker.failed()
            raise

    def _tell(self, is_open: bool) -> None:
        self._measure(is_open=is_open)
        if is_open:
            _log.error("remote shield left alone", remote=self._url, seconds=self._pause)
        else:
            _log.info("remote shield answers again", remote=self._url)

    def _measure(self, *, is_open: bool) -> None:
        instruments().remotes_open.set(int(is_open), instruments().labels({Name.REMOTE: self._url}))
