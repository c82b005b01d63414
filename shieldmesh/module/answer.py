"""One answer of a module, read as it comes."""

from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Self

from shieldmesh.client import wire
from shieldmesh.client.events import Event, Result


class Answer:
    """The events of one answer, to be read once with `async for`. Nothing is asked before the first one is wanted.

    Reading to the end, an error, leaving `async with answer:` and dropping the answer all end the work behind it.
    """

    def __init__(self, events: AsyncGenerator[Event]) -> None:
        self._events = events

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        return await anext(self._events)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def result(self) -> Result:
        """The whole answer, once it has ended.

        Raises:
            MeshError: the module could not do its job; the error's hops say where.
        """
        async with self:
            return wire.collect([event async for event in self])

    async def text(self) -> str:
        """All text, once the answer has ended.

        Raises:
            MeshError: see `result`.
        """
        return (await self.result()).text

    async def aclose(self) -> None:
        """Ends the work behind it, if that goes on. For whoever reads it, not for others meanwhile."""
        await self._events.aclose()
