"""What happens around every call, in one place and one order."""

from typing import Final

from shieldmesh.interceptors import deadline, errors, session, telemetry
from shieldmesh.interceptors.call import ClientInterceptor, ServerInterceptor

INNER: Final[tuple[ServerInterceptor, ...]] = (telemetry.serve, errors.serve, session.serve, deadline.serve)
"""Around each call a service of the mesh serves, outermost first."""

EDGE: Final[tuple[ServerInterceptor, ...]] = (telemetry.serve_edge, errors.serve, session.serve_edge, deadline.serve)
"""The same at the border, where nothing that a caller says about itself is trusted."""

TRUSTING_EDGE: Final[tuple[ServerInterceptor, ...]] = (telemetry.serve, *EDGE[1:])
"""The border of a mesh whose callers may decide over the trace, its id and its sampling; over nothing else."""

CLIENT: Final[tuple[ClientInterceptor, ...]] = (deadline.send, session.send, telemetry.send)
"""Before each call to another service, in this order."""
