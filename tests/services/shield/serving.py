"""The shield service in this process, on a Unix socket of its own, behind the mesh's own interceptors."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from services.shield.service import open_service
from shieldmesh import calls, channels
from shieldmesh.interceptors import INNER
from shieldmesh.interceptors.call import ServerIdentity
from shieldmesh.interceptors.server import MeshInterceptor
from shieldmesh.profile import struct
from shieldmesh.v1 import policy_pb2, shield_pb2, shield_pb2_grpc

TIMEOUT = 60.0
"""Seconds until a call of a test is given up."""

MAX_CHARACTERS = 1_000

Stub: TypeAlias = "shield_pb2_grpc.ShieldServiceAsyncStub"  # exists for type checkers alone


@asynccontextmanager
async def serving(directory: Path) -> AsyncGenerator[Stub, None]:
    """A stub of a server with all built-in shields."""
    around = MeshInterceptor(ServerIdentity("shield", "test", TIMEOUT), INNER)
    server = grpc.aio.server(interceptors=[around])
    async with open_service(server, default_timeout=5.0, max_characters=MAX_CHARACTERS, kept_shields=8):
        target = f"unix:{directory / 'shield.sock'}"
        server.add_insecure_port(target)
        await server.start()
        try:
            yield shield_pb2_grpc.ShieldServiceStub(channels.get(target))
        finally:
            await channels.close()
            await server.stop(None)
            await around.wait_idle()


async def converse(stub: Stub, requests: Iterable[shield_pb2.InspectStreamRequest]) -> list[shield_pb2.Clearance]:
    """The clearances that answer the requests, one by one, until the server ends the stream."""
    clearances: list[shield_pb2.Clearance] = []
    async with calls.bidi(stub.InspectStream, timeout=TIMEOUT) as call:
        for number, request in enumerate(requests):
            await call.write(request)
            answer = await call.read()
            if not isinstance(answer, shield_pb2.InspectStreamResponse):
                return clearances
            assert answer.WhichOneof("response") == ("clearance" if number else "opened")
            if number:
                clearances.append(answer.clearance)
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() == grpc.StatusCode.OK
    return clearances


def opening(*specs: policy_pb2.ShieldSpec, **fields: Any) -> shield_pb2.InspectStreamRequest:
    """A request that opens a stream of output."""
    fields = {"direction": policy_pb2.DIRECTION_OUTPUT, **fields}
    return shield_pb2.InspectStreamRequest(open=shield_pb2.InspectOpen(shields=specs, **fields))


def text(
    content: str,
    offset: int = 0,
    lane: int = 0,
    *,
    end: bool = False,
    part: policy_pb2.TextPart.ValueType = policy_pb2.TEXT_PART_UNSPECIFIED,
) -> shield_pb2.InspectStreamRequest:
    """A request that adds text."""
    return shield_pb2.InspectStreamRequest(
        text=shield_pb2.InspectText(lane=lane, offset=offset, text=content, end=end, part=part)
    )


def spec(kind: str = "pii", **fields: Any) -> policy_pb2.ShieldSpec:
    """A shield that redacts, named after its type."""
    options = fields.pop("options", {})
    fields = {"name": kind, "type": kind, "action": policy_pb2.ACTION_REDACT, **fields}
    return policy_pb2.ShieldSpec(**fields, options=struct(options))
