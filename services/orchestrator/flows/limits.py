"""What a flow may use at most."""

import asyncio
from collections.abc import Callable

from shieldmesh.errors import MeshError, ResourceExhaustedError


class CallLimit:
    """How many calls of modules a flow may make. One more ends it, whatever it does about the error.

    Attributes:
        end: Ends the flow.
    """

    def __init__(self, calls: int) -> None:
        self.end: Callable[[], object] | None = None
        self._allowed = calls
        self._made = 0

    @property
    def exceeded(self) -> bool:
        """Whether it wanted more."""
        return self._made > self._allowed

    async def count(self) -> None:
        """Counts a call that is about to be made.

        Raises:
            ResourceExhaustedError: it is one too many.
        """
        self._made += 1
        if self.exceeded:
            if self.end is not None:
                self.end()
            # A flow that asks again and again must not keep the loop from ending it.
            await asyncio.sleep(0)
            raise self.error()

    def error(self) -> MeshError:
        """What the turn ends with."""
        return ResourceExhaustedError(
            f"the flow made more than the {self._allowed} calls of modules that limits.calls of its profile allows",
            reason="FLOW_LIMIT",
        )
