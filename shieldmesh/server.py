"""A service's process: serve, say so, and leave in good order."""

import asyncio
import gc
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from types import MappingProxyType
from typing import Any, Final

import grpc
import structlog
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from shieldmesh import channels, exporting, logs, workers
from shieldmesh.admission import Places
from shieldmesh.conditions import Condition
from shieldmesh.diagnostics.memory import SpanMemory
from shieldmesh.diagnostics.servicer import add_diagnostics
from shieldmesh.draining import Background, drain
from shieldmesh.interceptors import INNER
from shieldmesh.interceptors.call import ServerIdentity, ServerInterceptor
from shieldmesh.interceptors.server import UNLIMITED, MeshInterceptor
from shieldmesh.interceptors.stopping import Stopping
from shieldmesh.settings import ServiceSettings

SERVER_OPTIONS: Final[tuple[tuple[str, Any], ...]] = (
    # The other half of shieldmesh.channels.CHANNEL_OPTIONS: without it such pings end in ENHANCE_YOUR_CALM.
    ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A peer that never acknowledges SETTINGS is not held to any header limit: let it go.
    ("grpc.http2.settings_timeout", 2_000),
    # A client looks its replicas up again when a connection ends, and would never find new ones while all is well.
    # After this time, give or take a tenth, a connection takes no new calls; those that run on it end as they would.
    ("grpc.max_connection_age_ms", 300_000),
    # What gathers for a reader that stalls, in either direction: see CHANNEL_OPTIONS.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.write_buffer_size", 16_384),
)

GARBAGE: Final = (10_000, 10, 10)
"""How many objects may gather before the collector looks at the young ones, and how often it looks at older ones:
Python's own first number is 700, and a turn makes hundreds."""

OpenService = Callable[[grpc.aio.Server], AbstractAsyncContextManager[Sequence[str]]]
"""Builds what a service needs, adds its servicers to the server, and yields the full names of its gRPC services."""

NOBODY: Final[Mapping[str, str]] = MappingProxyType({})
"""The targets of a service that calls none."""

UNCONDITIONAL: Final[Mapping[str, Condition]] = MappingProxyType({})
"""The conditions of a service that has none."""

_log = structlog.stdlib.get_logger("shieldmesh.server")


def run(
    name: str,
    settings: ServiceSettings,
    open_service: OpenService,
    *,
    interceptors: Sequence[ServerInterceptor] = INNER,
    downstream: Mapping[str, str] | None = NOBODY,
    conditions: Mapping[str, Condition] = UNCONDITIONAL,
    limits: Mapping[str, Places] = UNLIMITED,
    background: Background | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, then drains: no new calls, the running ones finish within the grace.

    With several workers, each of them does so, and this process looks after them.

    Args:
        name: What logs, spans and errors call it.
        settings: What it was told.
        open_service: What it serves.
        interceptors: What happens around each call.
        downstream: The targets of the services that it calls, by name, for diagnostics; None: it serves none.
        conditions: What health checks may ask for beside the services, by name; none of it makes the whole NOT_SERVING.
        limits: The methods (fully qualified) whose calls need places, and those.
        background: What runs without calls and has to end before the process does.

    Raises:
        SystemExit: the address cannot be served; the message says why.
    """
    identity = ServerIdentity(name, f"{socket.gethostname()}-{secrets.token_hex(3)}", settings.call_cap)
    logs.configure(identity, settings.log_format, settings.log_level)
    if settings.workers > 1:
        workers.supervise(_this_module(), settings)
        return
    memory = SpanMemory()
    if downstream is not None:
        open_service = _diagnosed(open_service, identity, memory, downstream)
    with exporting.recording(identity, settings, memory):
        serving = _serve(
            identity,
            settings,
            open_service,
            interceptors=interceptors,
            conditions=conditions,
            limits=limits,
            background=background or Background(),
        )
        uvloop.run(serving)


async def _serve(
    identity: ServerIdentity,
    settings: ServiceSettings,
    open_service: OpenService,
    *,
    interceptors: Sequence[ServerInterceptor],
    conditions: Mapping[str, Condition],
    limits: Mapping[str, Places],
    background: Background,
) -> None:
    asyncio.get_running_loop().set_exception_handler(logs.handle_loop_error)
    stop = _stop_event()
    stopping = Stopping()
    around = MeshInterceptor(identity, (*interceptors, stopping.serve), limits)
    # Two servers on one port would share its calls silently; workers want that and say so.
    options = [*SERVER_OPTIONS, ("grpc.so_reuseport", int(settings.share_port))]
    server = grpc.aio.server(interceptors=[around], options=options)
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    async with open_service(server) as services:
        reflection.enable_server_reflection([*services, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
        _listen(server, settings.listen)
        await server.start()
        for service in services:
            await checks.set(service, health_pb2.HealthCheckResponse.SERVING)
        for name, condition in conditions.items():
            await condition.follow(partial(_show, checks, name))
        await checks.set("", health_pb2.HealthCheckResponse.SERVING)
        _leave_to_rest()
        _log.info("serving", address=settings.listen, pid=os.getpid())
        await stop.wait()
        await drain(server, around, stopping, background, settings, not_serving=checks.enter_graceful_shutdown)
    await channels.close()
    _log.info("stopped")


def _this_module() -> str:
    """What `python -m` was given."""
    spec = sys.modules["__main__"].__spec__
    assert spec is not None  # noqa: S101  # services are started so
    return spec.parent or spec.name


async def _show(checks: health.aio.HealthServicer, name: str, holds: bool) -> None:
    status = health_pb2.HealthCheckResponse.SERVING if holds else health_pb2.HealthCheckResponse.NOT_SERVING
    await checks.set(name, status)


def _diagnosed(
    open_service: OpenService, identity: ServerIdentity, memory: SpanMemory, downstream: Mapping[str, str]
) -> OpenService:
    """The service with DiagnosticsService beside its own."""

    @asynccontextmanager
    async def open_both(server: grpc.aio.Server) -> AsyncGenerator[Sequence[str]]:
        async with open_service(server) as services:
            yield [*services, add_diagnostics(server, identity, memory, downstream)]

    return open_both


def _listen(server: grpc.aio.Server, address: str) -> None:
    try:
        server.add_insecure_port(address)
    except RuntimeError:
        raise SystemExit(
            f"cannot listen on {address}: it is in use or not allowed; stop what serves there, or choose another"
        ) from None


def _leave_to_rest() -> None:
    """Has the garbage collector look at what calls leave behind, less often, and not at all that is there to stay."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE)


def _stop_event() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
