"""What a mesh remembers of a turn."""

import asyncio
from typing import Final

from shieldmesh import calls
from shieldmesh.diagnostics.reach import Stub, explained, reach
from shieldmesh.errors import NotFoundError
from shieldmesh.v1.diagnostics_pb2 import GetTraceRequest, GetTraceResponse

PATIENCE: Final = 1.0
"""Seconds that the last spans of a turn may end after its client has its last event."""

_TIMEOUT: Final = 10.0
_PAUSE: Final = 0.05


async def recollect(target: str, turn_id: str) -> GetTraceResponse:
    """The spans of a turn. Just after its end some may be missing: then it asks again for a moment.

    Raises:
        NotFoundError: nobody remembers the turn.
        MeshError: nobody answers at `target`, or answers no such questions; the message says what to do.
    """
    stub = reach(target)
    loop = asyncio.get_running_loop()
    until = loop.time() + PATIENCE
    with explained(target):
        while True:
            found = await _ask(stub, turn_id, last=loop.time() >= until)
            if found is not None and (complete(found) or loop.time() >= until):
                return found
            await asyncio.sleep(_PAUSE)


def complete(found: GetTraceResponse) -> bool:
    """Whether the span around all others is there, which ends last."""
    return any(not span.parent_span_id for span in found.spans)


async def _ask(stub: "Stub", turn_id: str, *, last: bool) -> GetTraceResponse | None:
    try:
        return await calls.unary(stub.GetTrace, GetTraceRequest(turn_id=turn_id), timeout=_TIMEOUT)
    except NotFoundError:
        if last:
            raise
        return None
