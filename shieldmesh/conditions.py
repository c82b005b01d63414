"""What can be wrong with a service that serves all the same; health checks ask for it by a name of its own."""

from collections.abc import Awaitable, Callable

Tell = Callable[[bool], Awaitable[None]]


class Condition:
    """Holds, until somebody says otherwise.

    Attributes:
        holds: Whether all is well.
    """

    def __init__(self) -> None:
        self.holds = True
        self._tell: Tell | None = None

    async def set(self, *, holds: bool) -> None:
        """Says whether all is well now."""
        self.holds = holds
        if self._tell is not None:
            await self._tell(holds)

    async def follow(self, tell: Tell) -> None:
        """Has `tell` called with what is the case, now and whenever that is said anew."""
        self._tell = tell
        await tell(self.holds)
