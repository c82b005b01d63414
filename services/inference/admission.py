"""The places of a model."""

from shieldmesh import telemetry
from shieldmesh.admission import Place, Places
from shieldmesh.telemetry import Name, SpanName


class Admission(Places):
    """The places of one model, where waiting for one shows in the trace."""

    async def enter(self) -> Place:
        """See `shieldmesh.admission.Places`."""
        with telemetry.span(SpanName.QUEUE, {Name.QUEUED_AT: self.name}):
            return await super().enter()
