"""Which identity reaches a handler, inside the mesh and at its border."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from shieldmesh.context import RequestContext, current
from shieldmesh.errors import InvalidArgumentError, MeshError, from_rpc_error
from shieldmesh.interceptors import INNER, edge
from shieldmesh.interceptors.call import ServerIdentity, ServerInterceptor
from shieldmesh.interceptors.server import MeshInterceptor
from shieldmesh.v1 import chat_pb2, chat_pb2_grpc
from tests.shieldmesh.serving import OnlyChat

TIMEOUT = 60.0
INTERNAL = (("x-request-id", "r-1"), ("x-tenant-id", "t-1"), ("x-profile", "p-1"), ("x-profile-version", "v-1"))


class Witness(OnlyChat):
    """Notes the context in which it is called."""

    def __init__(self) -> None:
        self.seen: list[RequestContext] = []

    async def Chat(  # noqa: N802  # the contract's name
        self, request: chat_pb2.ChatRequest, context: object
    ) -> AsyncGenerator[chat_pb2.ChatEvent]:
        del request, context
        self.seen.append(current())
        yield chat_pb2.ChatEvent()


@asynccontextmanager
async def serving(
    witness: Witness, interceptors: Sequence[ServerInterceptor], directory: Path
) -> AsyncGenerator[grpc.aio.Channel]:
    """A plain channel, as a stranger has one, to a server behind the interceptors."""
    server = grpc.aio.server(interceptors=[MeshInterceptor(ServerIdentity("test", "test-1"), interceptors)])
    chat_pb2_grpc.add_ChatServiceServicer_to_server(witness, server)
    target = f"unix:{directory / 's.sock'}"
    server.add_insecure_port(target)
    await server.start()
    async with grpc.aio.insecure_channel(target) as channel:
        yield channel
    await server.stop(None)


async def call(channel: grpc.aio.Channel, *metadata: tuple[str, str]) -> None:
    """Calls with this metadata; a failure comes as the typed error."""
    stub = chat_pb2_grpc.ChatServiceStub(channel)
    try:
        async for _ in stub.Chat(chat_pb2.ChatRequest(), metadata=grpc.aio.Metadata(*metadata), timeout=TIMEOUT):
            pass
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from None


async def test_inside_the_mesh_the_callers_identity_becomes_the_context(tmp_path: Path) -> None:
    """Ids and session values arrive as they were sent; other baggage does not."""
    witness = Witness()
    async with serving(witness, INNER, tmp_path) as channel:
        await call(channel, ("x-session-id", "s-1"), *INTERNAL, ("baggage", "sm.locale=de%20AT,other=1"))
    seen = witness.seen[0]
    assert (seen.session_id, seen.request_id, seen.tenant_id) == ("s-1", "r-1", "t-1")
    assert (seen.profile, seen.profile_version) == ("p-1", "v-1")
    assert dict(seen.values) == {"locale": "de AT"}


async def test_at_the_border_only_the_session_id_is_believed(tmp_path: Path) -> None:
    """What only the mesh may say is minted or left empty, whatever a stranger sends."""
    witness = Witness()
    async with serving(witness, edge(), tmp_path) as channel:
        await call(channel, ("x-session-id", "s-1"), *INTERNAL, ("baggage", "other=1"))
        await call(channel)
    first, second = witness.seen
    assert first.session_id == "s-1"
    assert "r-1" not in first.request_id
    assert (first.tenant_id, first.profile, first.profile_version, dict(first.values)) == ("", "", "", {})
    assert second.session_id
    assert len({first.request_id, second.request_id, second.session_id}) == 3


async def test_at_the_border_a_session_value_needs_leave(tmp_path: Path) -> None:
    """A value on the list cascades; one that is not is refused with what would be right."""
    witness = Witness()
    async with serving(witness, edge(session_values=["locale"]), tmp_path) as channel:
        await call(channel, ("baggage", "sm.locale=fr"))
        with pytest.raises(InvalidArgumentError, match="only locale may") as caught:
            await call(channel, ("baggage", "sm.locale=fr,sm.admin=1"))
    assert caught.value.field == "metadata.baggage"
    assert [dict(seen.values) for seen in witness.seen] == [{"locale": "fr"}]


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        (("x-session-id", "a b"), "metadata.x-session-id"),
        (("x-session-id", "a" * 129), "metadata.x-session-id"),
        (("baggage", "sm.locale=" + "x" * 2048), "metadata.baggage"),
    ],
    ids=["characters", "length", "baggage"],
)
@pytest.mark.parametrize("interceptors", [INNER, edge(session_values=["locale"])], ids=["inner", "edge"])
async def test_what_is_no_identity_is_refused(
    tmp_path: Path, interceptors: Sequence[ServerInterceptor], entry: tuple[str, str], field: str
) -> None:
    """A bad id or too large values are INVALID_ARGUMENT with the entry's name, and the handler is not called."""
    witness = Witness()
    async with serving(witness, interceptors, tmp_path) as channel:
        with pytest.raises(MeshError) as caught:
            await call(channel, entry)
    assert isinstance(caught.value, InvalidArgumentError)
    assert caught.value.field == field
    assert witness.seen == []
