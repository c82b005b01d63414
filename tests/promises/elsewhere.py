"""What runs in another process, whose modules are imported there anew."""

from shieldmesh import context, telemetry
from shieldmesh.context import RequestContext


def who() -> tuple[RequestContext, str]:
    """The context and the trace that this process works in."""
    return context.current(), telemetry.trace_id()
