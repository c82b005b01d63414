"""Pooled HTTP clients: one per running event loop, server and credentials; see `shieldmesh.affinity`."""

from typing import Final

import httpx

from shieldmesh.affinity import LoopPool
from shieldmesh.telemetry import PROPAGATOR

CONNECTIONS: Final = 100
"""Connections that a client has at most, when its user does not say."""

_Key = tuple[str, str, bool, int | None]

_pool: Final[LoopPool[_Key, httpx.AsyncClient]] = LoopPool(httpx.AsyncClient.aclose)


def get(
    base_url: str, *, authorization: str = "", traced: bool = True, connections: int | None = CONNECTIONS
) -> httpx.AsyncClient:
    """This loop's client for a server. It keeps connections open between requests.

    Of a request's context it sends the current trace, when it is `traced`, and nothing else.

    Args:
        base_url: Scheme, host, port, and a path if need be, for example "http://127.0.0.1:8000".
        authorization: The value of the `authorization` header; clients with different ones share nothing.
        traced: Whether the server is told which trace a request belongs to.
        connections: Connections at most; further requests wait for one. None: as many as there are requests at a time.

    Raises:
        RuntimeError: no event loop is running.
    """
    key = base_url, authorization, traced, connections
    return _pool.get(key, lambda: _make(*key))


async def close() -> None:
    """Closes all HTTP clients of the running loop."""
    await _pool.close()


def _make(base_url: str, authorization: str, traced: bool, connections: int | None) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=base_url,
        headers={"authorization": authorization} if authorization else {},
        event_hooks={"request": [_carry_trace] if traced else []},
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
    )


async def _carry_trace(request: httpx.Request) -> None:
    PROPAGATOR.inject(request.headers)
