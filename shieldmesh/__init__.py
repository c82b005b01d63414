"""Guardrails for streaming language models, as a mesh of gRPC services.

    async with shieldmesh.connect() as mesh:
        async for event in mesh.chat("Why is the sky blue?"):
            if isinstance(event, shieldmesh.Delta):
                print(event.text, end="", flush=True)

`connect_sync` is the same without an event loop. Failures are `MeshError`s, which know the call path. Code of a service
tells the client of the turn that it works for what has come about so far with `progress`.
"""

from shieldmesh.client import (
    Action,
    Delta,
    Direction,
    Disconnect,
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
    Tool,
    ToolCall,
    ToolCallDelta,
    Turn,
    TurnRecord,
    TurnState,
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
from shieldmesh.module import Ask, Module
from shieldmesh.publishing import progress

__version__ = "0.1.0"

__all__ = [
    "Action",
    "Ask",
    "CancelledCallError",
    "DataLossError",
    "DeadlineExceededError",
    "Delta",
    "Direction",
    "Disconnect",
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
    "Module",
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
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "Turn",
    "TurnRecord",
    "TurnState",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "Usage",
    "Verdict",
    "__version__",
    "connect",
    "connect_sync",
    "progress",
]
