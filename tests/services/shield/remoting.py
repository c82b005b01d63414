"""Remote shields of tests: services and detectors in this process, real ones and some that answer as told."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import grpc
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.shield.catalogue import Catalogue
from services.shield.detector_api import Listening, serving
from services.shield.remote.remotes import Remotes
from services.shield.servicer import ShieldServicer
from services.shield.shield import Shield
from shieldmesh import channels, http
from shieldmesh.interceptors import INNER
from shieldmesh.interceptors.call import ServerIdentity
from shieldmesh.interceptors.server import MeshInterceptor
from shieldmesh.profile import struct
from shieldmesh.v1 import policy_pb2, shield_pb2, shield_pb2_grpc

TIMEOUT = 60.0
"""Seconds until a test gives up waiting."""

Answer: TypeAlias = shield_pb2.InspectStreamResponse
Talk: TypeAlias = Callable[[AsyncIterator[shield_pb2.InspectStreamRequest]], AsyncGenerator[Answer]]
OPENED = Answer(opened=shield_pb2.InspectOpened())


class TalkingShields(shield_pb2_grpc.ShieldServiceServicer):
    """Answers streams as written down.

    Attributes:
        began: Set when a stream was opened.
        ended: Set when one has ended.
    """

    def __init__(self, talk: Talk) -> None:
        self.began = asyncio.Event()
        self.ended = asyncio.Event()
        self._talk = talk

    async def Inspect(  # noqa: N802  # the contract's name
        self, request: shield_pb2.InspectRequest, context: object
    ) -> shield_pb2.InspectResponse:
        raise NotImplementedError

    async def ListShields(  # noqa: N802  # the contract's name
        self, request: shield_pb2.ListShieldsRequest, context: object
    ) -> shield_pb2.ListShieldsResponse:
        raise NotImplementedError

    async def InspectStream(  # noqa: N802  # the contract's name
        self, request_iterator: AsyncIterator[shield_pb2.InspectStreamRequest], context: object
    ) -> AsyncGenerator[Answer]:
        del context
        self.began.set()
        try:
            async for answer in self._talk(request_iterator):
                yield answer
        finally:
            self.ended.set()


def real(remotes: Remotes | None = None) -> ShieldServicer:
    """The real service, which may call the given remotes."""
    catalogue = Catalogue(capacity=64, default_timeout=TIMEOUT, remotes=remotes)
    return ShieldServicer(catalogue, max_characters=1_000_000)


@asynccontextmanager
async def service(
    directory: Path, servicer: shield_pb2_grpc.ShieldServiceServicer, name: str = "remote"
) -> AsyncGenerator[str]:
    """The URL of a ShieldService behind the mesh's interceptors."""
    around = MeshInterceptor(ServerIdentity(name, "test", TIMEOUT), INNER)
    server = grpc.aio.server(interceptors=[around])
    shield_pb2_grpc.add_ShieldServiceServicer_to_server(servicer, server)
    url = f"unix:{directory / name}.sock"
    server.add_insecure_port(url)
    await server.start()
    try:
        yield url
    finally:
        await channels.close()
        await server.stop(None)
        await around.wait_idle()


@asynccontextmanager
async def detector(answer: Callable[[Request], Awaitable[Response]], path: str = "") -> AsyncGenerator[str]:
    """The URL of a server that answers the detector API as written down."""
    app = Starlette(routes=[Route(f"{path}/api/v1/text/contents", answer, methods=["POST"])])
    async with serving(app, Listening("127.0.0.1:0", TIMEOUT, TIMEOUT)) as address:
        try:
            yield f"http://{address}{path}"
        finally:
            await http.close()


async def remote(
    url: str,
    *,
    allowed: Sequence[str] | None = None,
    remotes: Remotes | None = None,
    action: policy_pb2.Action.ValueType = policy_pb2.ACTION_REDACT,
    **more: Any,
) -> Shield:
    """A remote shield; more are fields of its specification, and options."""
    remotes = remotes or Remotes([url] if allowed is None else allowed)
    fields: dict[str, Any] = {key: more.pop(key) for key in ("on_error", "action_by_kind", "timeout") if key in more}
    options = struct({"url": url, **more})
    spec = policy_pb2.ShieldSpec(name="remote", type="remote", action=action, options=options, **fields)
    (shield,) = await Catalogue(capacity=8, default_timeout=TIMEOUT, remotes=remotes).shields([spec])
    return shield
