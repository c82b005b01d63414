"""The Python client: `connect` for asyncio, `connect_sync` for everything else."""

from shieldmesh.client.conversation import Message, Role, Sampling, Tool, ToolCall
from shieldmesh.client.events import (
    Action,
    Delta,
    Direction,
    Event,
    Finding,
    Finished,
    FinishReason,
    Hold,
    Progress,
    Receipt,
    Reconnected,
    Result,
    Started,
    Timings,
    ToolCallDelta,
    TurnRecord,
    TurnState,
    Usage,
    Verdict,
)
from shieldmesh.client.mesh import Mesh, connect
from shieldmesh.client.reconnect import Reconnect
from shieldmesh.client.request import Disconnect, History
from shieldmesh.client.sessions import SessionRecord, SessionTurn
from shieldmesh.client.sync import SyncMesh, connect_sync
from shieldmesh.client.sync_turn import SyncTurn
from shieldmesh.client.turn import Turn

__all__ = [
    "Action",
    "Delta",
    "Direction",
    "Disconnect",
    "Event",
    "Finding",
    "FinishReason",
    "Finished",
    "History",
    "Hold",
    "Mesh",
    "Message",
    "Progress",
    "Receipt",
    "Reconnect",
    "Reconnected",
    "Result",
    "Role",
    "Sampling",
    "SessionRecord",
    "SessionTurn",
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
    "Usage",
    "Verdict",
    "connect",
    "connect_sync",
]
