"""The places of a model."""

from shieldmesh import telemetry
from shieldmesh.admission import Place, Places
from shieldmesh.publishing import progress
from shieldmesh.telemetry import Name, SpanName


class Admission(Places):
    """The places of one model, where waiting for one shows in the trace and in the turn."""

    async def enter(self) -> Place:
        """See `shieldmesh.admission.Places`."""
        with telemetry.span(SpanName.QUEUE, {Name.QUEUED_AT: self.name}):
            return await super().enter()

    def note_waiting(self) -> None:
        """Tells the caller's turn how many wait."""
        progress("queue", {"waiting": self.waiting})
