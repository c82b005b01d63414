"""P9: every network client belongs to the loop that uses it, is shared by all its calls, and is closed with it."""

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest
import trustme

import shieldmesh
from shieldmesh import channels, http
from tests.services.inference.openai.upstream import unhurried

from .connections import METHOD, Proxy, grpc_server, http_server
from .mesh import TIMEOUT, running

T = TypeVar("T")
CALLS = 1_000
AT_ONCE = 50


@contextmanager
def plain() -> Generator[tuple[Proxy, None]]:
    """A gRPC server without TLS."""
    with grpc_server() as proxy:
        yield proxy, None


@contextmanager
def encrypted() -> Generator[tuple[Proxy, grpc.ChannelCredentials]]:
    """A gRPC server with TLS, and the credentials that trust it."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    credentials = grpc.ssl_server_credentials([(certificate.private_key_pem.bytes(), chain)])
    with grpc_server(credentials) as proxy:
        yield proxy, grpc.ssl_channel_credentials(authority.cert_pem.bytes())


either = pytest.mark.parametrize("kind", [plain, encrypted])


async def peer(proxy: Proxy, credentials: grpc.ChannelCredentials | None = None) -> bytes:
    """Who we are for the server, over this loop's channel: one address per connection."""
    channel = channels.get(proxy.address, credentials)
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
    return await call(b"", timeout=TIMEOUT)


async def fetch(proxy: Proxy, authorization: str = "") -> str:
    """What the HTTP server heard, over this loop's client."""
    answer = await http.get(f"http://{proxy.address}", authorization=authorization).get("/", timeout=TIMEOUT)
    return answer.text


def in_a_thread(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What `main` returns under a loop of another thread."""
    results: list[T] = []
    thread = threading.Thread(target=lambda: results.append(asyncio.run(main())))
    thread.start()
    thread.join()
    return results[0]


@either
def test_a_thousand_calls_share_one_connection(kind: Callable[[], Any]) -> None:
    """All calls of a loop to one endpoint go over one connection, which `close` ends."""

    async def main(proxy: Proxy, credentials: grpc.ChannelCredentials | None) -> None:
        peers: set[bytes] = set()
        for _ in range(CALLS // AT_ONCE):
            peers.update(await asyncio.gather(*(peer(proxy, credentials) for _ in range(AT_ONCE))))
        assert len(peers) == 1
        assert (proxy.accepted, proxy.open) == (1, 1)
        await channels.close()
        await asyncio.to_thread(proxy.wait_until_none_is_open)
        assert await peer(proxy, credentials) not in peers
        assert proxy.accepted == 2

    with kind() as (proxy, credentials):
        asyncio.run(main(proxy, credentials))
        proxy.wait_until_none_is_open()


@either
def test_one_loop_after_another_and_in_another_thread(kind: Callable[[], Any]) -> None:
    """Calls succeed under every loop, each over a connection of its own that ends with the loop."""
    with kind() as (proxy, credentials):
        peers: set[bytes] = set()
        call = partial(peer, proxy, credentials)
        for thread in (False, False, True):
            peers.add(in_a_thread(call) if thread else asyncio.run(call()))
            # gRPC's core closes it a moment later, and would give it to the next.
            proxy.wait_until_none_is_open()
        assert len(peers) == 3
        assert proxy.accepted == 3


def test_two_loops_at_the_same_time() -> None:
    """Of two loops that run side by side, the end of one leaves the other's calls alone.

    gRPC's core may carry both over one connection: that is below what belongs to a loop.
    """

    async def main(proxy: Proxy) -> None:
        ours = await peer(proxy)
        await asyncio.to_thread(in_a_thread, lambda: peer(proxy))
        assert await peer(proxy) == ours
        assert proxy.accepted <= 2

    with grpc_server() as proxy:
        asyncio.run(main(proxy))
        proxy.wait_until_none_is_open()


def test_other_credentials_get_another_connection() -> None:
    """Calls with different credentials never share a connection."""

    async def main(proxy: Proxy, credentials: grpc.ChannelCredentials, others: grpc.ChannelCredentials) -> None:
        peers = [await peer(proxy, each) for each in (credentials, others, credentials, others)]
        assert peers[0] == peers[2] != peers[1] == peers[3]
        assert proxy.accepted == 2

    with encrypted() as (proxy, credentials):
        call = grpc.access_token_call_credentials("somebody else's")
        asyncio.run(main(proxy, credentials, grpc.composite_channel_credentials(credentials, call)))
        proxy.wait_until_none_is_open()


@either
def test_a_server_that_is_slow_to_greet(kind: Callable[[], Any]) -> None:
    """A busy or distant server is waited for: connecting is not given up and begun again and again."""
    with kind() as (proxy, credentials):
        proxy.greets_after = 1.2
        assert asyncio.run(peer(proxy, credentials))
        assert proxy.accepted == 1
        proxy.wait_until_none_is_open()


def test_a_loop_that_was_closed_by_hand() -> None:
    """A loop that is closed without shutting down leaves nothing behind once another loop makes a call."""
    with grpc_server() as proxy:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(peer(proxy))
        loop.close()
        del loop
        assert proxy.open == 1
        assert asyncio.run(peer(proxy))
        gc.collect()
        proxy.wait_until_none_is_open()


def test_a_thousand_requests_share_one_connection() -> None:
    """HTTP requests that follow one another use one connection, which `close` ends."""

    async def main(proxy: Proxy) -> None:
        assert {await fetch(proxy) for _ in range(CALLS)} == {"nobody"}
        assert (proxy.accepted, proxy.open) == (1, 1)
        await http.close()
        await asyncio.to_thread(proxy.wait_until_none_is_open)
        assert await fetch(proxy) == "nobody"
        assert proxy.accepted == 2

    with http_server() as proxy:
        asyncio.run(main(proxy))
        proxy.wait_until_none_is_open()


def test_requests_of_several_loops() -> None:
    """HTTP requests succeed under every loop; credentials and loops share no connection."""

    async def main(proxy: Proxy) -> list[str]:
        return [await fetch(proxy, who) for who in ("Bearer a", "Bearer b", "Bearer a", "Bearer b")]

    with http_server() as proxy, unhurried():
        heard = [asyncio.run(main(proxy)), asyncio.run(main(proxy)), in_a_thread(lambda: main(proxy))]
        assert heard == [["Bearer a", "Bearer b"] * 2] * 3
        assert proxy.accepted == 6
        proxy.wait_until_none_is_open()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_an_http_loop_that_was_closed_by_hand() -> None:
    """Such a loop leaves a connection, of which asyncio complains; it is closed all the same."""
    with http_server() as proxy:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(fetch(proxy))
        loop.close()
        del loop
        assert proxy.open == 1
        assert asyncio.run(fetch(proxy))
        gc.collect()
        proxy.wait_until_none_is_open()


def test_one_client_under_one_loop_after_the_other(tmp_path: Path) -> None:
    """One client of the mesh, made outside any loop, works under every loop, also while the mesh has its own."""
    ready, stop = threading.Event(), threading.Event()
    target = f"unix:{tmp_path / 'gateway'}.sock"

    async def serve() -> None:
        async with running(tmp_path):
            ready.set()
            await asyncio.to_thread(stop.wait)

    async def text(mesh: shieldmesh.Mesh) -> str:
        return await mesh.chat("hello there", timeout=TIMEOUT).text()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(TIMEOUT)
        mesh = shieldmesh.connect(target)
        assert [asyncio.run(text(mesh)), asyncio.run(text(mesh)), in_a_thread(lambda: text(mesh))] == [
            "hello there"
        ] * 3
    finally:
        stop.set()
        thread.join()
