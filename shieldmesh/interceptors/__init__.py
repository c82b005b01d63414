"""What happens around every call, in one place and one order."""

from collections.abc import Collection
from typing import Final

from shieldmesh.interceptors import deadline, errors, session, telemetry
from shieldmesh.interceptors.call import ClientInterceptor, ServerInterceptor

INNER: Final[tuple[ServerInterceptor, ...]] = (telemetry.serve, errors.serve, session.serve, deadline.serve)
"""Around each call a service of the mesh serves, outermost first."""

CLIENT: Final[tuple[ClientInterceptor, ...]] = (deadline.send, session.send, telemetry.send)
"""Before each call to another service, in this order."""


def edge(*, trust_trace: bool = False, session_values: Collection[str] = ()) -> tuple[ServerInterceptor, ...]:
    """Around each call at the border, where nothing that a caller says about itself is trusted.

    Args:
        trust_trace: Callers decide over the trace, its id and its sampling.
        session_values: The names of the session values that callers may set.
    """
    return (
        telemetry.serve if trust_trace else telemetry.serve_edge,
        errors.serve,
        session.serve_edge(session_values),
        deadline.serve,
    )


EDGE: Final = edge()
"""The border by default."""
