"""What is written and not kept yet: counted in bytes, and bounded."""

from shieldmesh.flag import Flag


class Backlog:
    """Counts; never refuses.

    Attributes:
        size: Bytes that wait.
    """

    def __init__(self, limit: int) -> None:
        """`limit`: the bytes that may wait before `room` makes writers wait."""
        self.size = 0
        self._limit = limit
        self._room = Flag(is_set=True)

    @property
    def full(self) -> bool:
        """Whether more waits than the limit."""
        return self.size > self._limit

    def add(self, size: int) -> None:
        """So much waits now, too."""
        self.size += size
        if self.full:
            self._room.clear()

    def done(self, size: int) -> None:
        """So much waits no longer."""
        self.size -= size
        if not self.full:
            self._room.set()

    async def room(self) -> None:
        """Returns when no more than the limit waits."""
        if not self._room.is_set:
            await self._room.wait()
