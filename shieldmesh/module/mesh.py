"""A profile of a mesh."""

from collections.abc import AsyncGenerator

from shieldmesh.client.events import Event
from shieldmesh.client.mesh import Mesh
from shieldmesh.module.target import Ask


class MeshTarget:
    """One profile of one mesh; see `shieldmesh.module.target.Target`.

    Attributes:
        target: The mesh, as `shieldmesh.channels` takes it.
        profile: "" means its default.
    """

    def __init__(self, target: str, profile: str) -> None:
        self.target = target
        self.profile = profile
        self._mesh = Mesh(target)

    async def answer(self, ask: Ask) -> AsyncGenerator[Event]:
        """See `Target.answer`."""
        turn = self._mesh.chat(
            ask.messages, profile=self.profile, sampling=ask.sampling, tools=ask.tools, timeout=ask.timeout
        )
        async with turn:
            async for event in turn:
                yield event
