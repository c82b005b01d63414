"""HTTP beside gRPC: a server on a port of its own, on the loop of the service."""

import asyncio
import math
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import structlog
import uvicorn
from starlette.types import ASGIApp

from shieldmesh.settings import split_address

_log = structlog.stdlib.get_logger("shieldmesh.shield")

_KEEP_ALIVE = 75
"""Seconds that an idle connection stays open."""


@dataclass(frozen=True, slots=True)
class Listening:
    """Where and how to serve."""

    address: str
    """`host:port`; port 0 is a free one."""
    call_cap: float = 600.0
    """Seconds that a request may take."""
    drain_grace: float = 10.0
    """Seconds that running requests get to finish at the end."""


@asynccontextmanager
async def serving(app: ASGIApp, listening: Listening) -> AsyncGenerator[str]:
    """Serves `app` inside the block, which gets the address; on leaving, takes nothing new and finishes what runs.

    Raises:
        SystemExit: the address cannot be served; the message says why.
    """
    server = _Server(_config(app, listening))
    with _bound(listening.address) as bound:
        host, port = bound.getsockname()[:2]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        task = asyncio.create_task(server.serve(sockets=[bound]))
        _log.info("serving detector API", address=address)
        try:
            yield address
        finally:
            server.should_exit = True
            await task


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leaves the signals to the process, which drains gRPC, too."""
        yield


def _config(app: ASGIApp, listening: Listening) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        # Logs are the process's own; a line for every request would say nothing that spans do not.
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=math.ceil(listening.drain_grace),
    )


def _bound(address: str) -> socket.socket:
    host, port = split_address(address, "detector_api_listen")
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen()  # already: who connects before the server accepts, waits
    except OSError as error:
        bound.close()
        raise SystemExit(
            f"cannot serve the detector API at {address}: {error.strerror or error}; choose another detector_api_listen"
        ) from None
    return bound
