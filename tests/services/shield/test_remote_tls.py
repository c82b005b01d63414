"""ShieldServices behind TLS: credentials travel there alone, and a server that nobody vouches for is not talked to."""

from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager

import grpc
import pytest
import trustme

from services.shield.remote.remotes import Remotes
from shieldmesh import channels
from shieldmesh.interceptors import INNER
from shieldmesh.interceptors.call import ServerCall, ServerIdentity
from shieldmesh.interceptors.server import MeshInterceptor
from shieldmesh.v1 import policy_pb2, shield_pb2_grpc

from .examples import EMAIL
from .remoting import TIMEOUT, real, remote
from .slow import hear

_trusting = grpc.ssl_channel_credentials


@asynccontextmanager
async def encrypted(heard: list[Mapping[str, str]], authority: trustme.CA) -> AsyncGenerator[str]:
    """The URL of a real service with a certificate of this authority, which notes the metadata that it gets."""

    @contextmanager
    def note(call: ServerCall) -> Generator[None]:
        heard.append(call.metadata)
        yield

    certificate = authority.issue_cert("localhost")
    chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    around = MeshInterceptor(ServerIdentity("remote", "test", TIMEOUT), (*INNER, note))
    server = grpc.aio.server(interceptors=[around])
    shield_pb2_grpc.add_ShieldServiceServicer_to_server(real(), server)
    credentials = grpc.ssl_server_credentials([(certificate.private_key_pem.bytes(), chain)])
    port = server.add_secure_port("localhost:0", credentials)
    await server.start()
    try:
        yield f"grpcs://localhost:{port}"
    finally:
        await channels.close()
        await server.stop(None)
        await around.wait_idle()


async def test_credentials_travel_with_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service is who its certificate says, and gets the header that was set for its URL."""
    authority, heard = trustme.CA(), list[Mapping[str, str]]()
    monkeypatch.setattr(grpc, "ssl_channel_credentials", lambda: _trusting(authority.cert_pem.bytes()))
    async with encrypted(heard, authority) as url:
        remotes = Remotes([url], authorizations={url: "Bearer secret"})
        result = await hear([await remote(url, type="pii", remotes=remotes)], [EMAIL])
    assert result.text == "[EMAIL]"
    assert [metadata["authorization"] for metadata in heard] == ["Bearer secret"]


async def test_a_stranger_is_not_talked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate of an authority that is not trusted is like no server."""
    trusted, heard = trustme.CA(), list[Mapping[str, str]]()
    monkeypatch.setattr(grpc, "ssl_channel_credentials", lambda: _trusting(trusted.cert_pem.bytes()))
    async with encrypted(heard, trustme.CA()) as url:
        result = await hear([await remote(url, type="pii")], [EMAIL])
    assert result.verdicts == [("remote", policy_pb2.ACTION_BLOCK, "SHIELD_UNAVAILABLE")]
    assert heard == []
