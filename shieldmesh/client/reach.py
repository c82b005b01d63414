"""What to tell people whose mesh does not answer."""

from collections.abc import Sequence
from dataclasses import replace

from shieldmesh.errors import Hop, MeshError, UnavailableError


def answered(error: MeshError) -> Sequence[Hop]:
    """The services that had a part in the error; none, when no service of a mesh answered at all."""
    return [hop for hop in error.hops if hop.instance]


def explain(error: MeshError, target: str, received: int) -> MeshError:
    """The same error, or one that says what to do when no service of a mesh answered at `target`.

    Args:
        error: How the call failed.
        target: Where it went.
        received: How many events had come.
    """
    if answered(error):
        return error
    # Nobody but this client wrote the path, and what it calls is a gateway.
    error.hops = tuple(replace(hop, service="gateway") for hop in error.hops)
    if not isinstance(error, UnavailableError):
        return error
    if received:
        message = f"the connection to the mesh at {target} broke after event {received}"
    else:
        message = f"nothing answers at {target}: start a mesh with `shieldmesh up`, or give the URL of one that runs"
    return UnavailableError(message, reason=error.reason, retry_after=error.retry_after, hops=error.hops)
