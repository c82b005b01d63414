"""One bare grpc.aio proxy hop that looks at nothing: what a service in Python costs before any of its code runs.

`python -m benchmarks.hop LISTEN UPSTREAM` passes on Generate. It is started like a service of the mesh, with uvloop and
without gRPC's event engine.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import uvloop

from shieldmesh.cli.local.mesh import running_mesh
from shieldmesh.cli.local.plan import PROCESS, plan_mesh
from shieldmesh.v1 import inference_pb2

from .load import Load
from .quiet import Pids
from .system import Engines, Running, System, free_port, program
from .testbed import ROOT, write_models

_SERVICE: Final = inference_pb2.DESCRIPTOR.services_by_name["InferenceService"].full_name


def system() -> System:
    """The hop in front of our inference service."""
    settings = "uvloop, no event engine, bytes passed on unread; in front of our inference service."
    return System("hop", f"a bare grpc.aio {grpc.__version__} proxy hop", settings, _start)


@asynccontextmanager
async def engine_service(engines: Engines) -> AsyncGenerator[tuple[Path, str]]:
    """Our inference service alone; yields a directory for what else is needed, and its address."""
    with tempfile.TemporaryDirectory(prefix="sm-") as name:
        directory = Path(name)
        models = directory / "models.yaml"
        write_models(models, engines)
        services = plan_mesh(directory, "127.0.0.1:0", profiles=directory, models=models, log_format="json")
        inference = next(service for service in services if service.name == "inference")
        async with running_mesh([inference], ROOT, os.environ, Pids()):
            yield directory, inference.target


@asynccontextmanager
async def _start(engines: Engines) -> AsyncGenerator[Running]:
    async with engine_service(engines) as (_, target):
        port = free_port()
        command = [sys.executable, "-m", "benchmarks.hop", f"127.0.0.1:{port}", target]
        async with program(command, port, environment={**PROCESS, "PYTHONPATH": str(ROOT)}) as pid:
            yield Running(Load(f"127.0.0.1:{port}", "engine"), Load(target, "engine"), {"hop": pid})


async def _serve(listen: str, upstream: str) -> None:
    server = grpc.aio.server()
    async with grpc.aio.insecure_channel(upstream) as channel:
        call: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(f"/{_SERVICE}/Generate")

        async def forward(requests: AsyncIterator[bytes], _context: object) -> AsyncGenerator[bytes]:
            async for answer in call(requests):
                yield answer

        handler: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(forward)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {"Generate": handler}),))
        server.add_insecure_port(listen)
        await server.start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(*sys.argv[1:]))
