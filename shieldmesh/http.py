"""Pooled HTTP clients: one per running event loop, server and credentials; see `shieldmesh.affinity`."""

from typing import Final

import httpx

from shieldmesh.affinity import LoopPool
from shieldmesh.telemetry import PROPAGATOR

_pool: Final[LoopPool[tuple[str, str], httpx.AsyncClient]] = LoopPool(httpx.AsyncClient.aclose)


def get(base_url: str, *, authorization: str = "") -> httpx.AsyncClient:
    """This loop's client for a server. It carries the current trace, and keeps connections open between requests.

    Args:
        base_url: Scheme, host and port, for example "http://127.0.0.1:8000".
        authorization: The value of the `authorization` header; clients with different ones share nothing.

    Raises:
        RuntimeError: no event loop is running.
    """
    return _pool.get((base_url, authorization), lambda: _make(base_url, authorization))


async def close() -> None:
    """Closes all HTTP clients of the running loop."""
    await _pool.close()


def _make(base_url: str, authorization: str) -> httpx.AsyncClient:
    headers = {"authorization": authorization} if authorization else {}
    return httpx.AsyncClient(base_url=base_url, headers=headers, event_hooks={"request": [_carry_trace]})


async def _carry_trace(request: httpx.Request) -> None:
    PROPAGATOR.inject(request.headers)
