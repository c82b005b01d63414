"""Guardrails for streaming language models, as a mesh of gRPC services.

    async with shieldmesh.connect() as mesh:
        async for event in mesh.chat("Why is the sky blue?"):
            if isinstance(event, shieldmesh.Delta):
                print(event.text, end="", flush=True)

`connect_sync` is the same without an event loop. Failures are `MeshError`s, which know the call path.
"""

from shieldmesh.client import (
    Action,
    Delta,
    Direction,
    Event,
    Finding,
    Finished,
    FinishReason,
    Hold,
    Mesh,
    Message,
    Progress,
    Receipt,
    Result,
    Role,
    Sampling,
    Started,
    SyncMesh,
    SyncTurn,
    Timings,
    ToolCallDelta,
    Turn,
    Usage,
    Verdict,
    connect,
    connect_sync,
)
from shieldmesh.errors import (
    CancelledCallError,
    DataLossError,
    DeadlineExceededError,
    FailedPreconditionError,
    Hop,
    InternalError,
    InvalidArgumentError,
    MeshError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
)

__version__ = "0.1.0"

__all__ = [
    "Action",
    "CancelledCallError",
    "DataLossError",
    "DeadlineExceededError",
    "Delta",
    "Direction",
    "Event",
    "FailedPreconditionError",
    "Finding",
    "FinishReason",
    "Finished",
    "Hold",
    "Hop",
    "InternalError",
    "InvalidArgumentError",
    "Mesh",
    "MeshError",
    "Message",
    "NotFoundError",
    "PermissionDeniedError",
    "Progress",
    "Receipt",
    "ResourceExhaustedError",
    "Result",
    "Role",
    "Sampling",
    "Started",
    "SyncMesh",
    "SyncTurn",
    "Timings",
    "ToolCallDelta",
    "Turn",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "Usage",
    "Verdict",
    "__version__",
    "connect",
    "connect_sync",
]
