"""What may be spent on trying again, so that retries never multiply the load of a server in trouble."""

from typing import Final

_EARNED: Final = 0.1


class RetryBudget:
    """Lets something be tried again while most attempts do well; the scheme is that of gRPC's retry throttling.

    A failure costs 1, a success brings 0.1 back, and with half of it gone nothing is tried again. So however many fail,
    retries add half of its size once, and a tenth of what succeeds.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._left = float(size)

    def succeeded(self) -> None:
        """An attempt did well."""
        self._left = min(self._size, self._left + _EARNED)

    def failed(self) -> None:
        """An attempt did not."""
        self._left = max(0.0, self._left - 1)

    @property
    def allows(self) -> bool:
        """Whether another attempt may be."""
        return self._left > self._size / 2
