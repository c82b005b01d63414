"""A mesh with replicas, whose connections all go over wires that can be cut."""

import shutil
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from shieldmesh.cli.local.address import claim
from shieldmesh.cli.local.plan import plan_mesh, replicas

from .conftest import SCRIPTED_MODELS
from .cutting import Wire
from .mesh import Mesh, clean_environment


@dataclass(frozen=True)
class Fleet:
    """Running processes, and the wires between them."""

    mesh: Mesh
    entry: Wire
    """From clients to the gateways."""
    inner: tuple[Wire, ...]
    """From the gateways to each orchestrator."""
    gateways: tuple[str, ...]

    @property
    def wires(self) -> tuple[Wire, ...]:
        """All of them."""
        return (self.entry, *self.inner)


@asynccontextmanager
async def running(
    profiles: Path, *, orchestrators: int, environment: Mapping[str, str], gateways: int = 2
) -> AsyncGenerator[Fleet]:
    """So many replicas, over one shield and one inference service; the end of the block stops them in good order."""
    directory = Path(tempfile.mkdtemp(prefix="sm-"))
    free = (claim("127.0.0.1:0") for _ in range(gateways + orchestrators))
    shield, inference, orchestrator, gateway = plan_mesh(
        directory, "127.0.0.1:0", profiles=profiles, models=SCRIPTED_MODELS, log_format="json"
    )
    running = replicas(orchestrator, [next(free) for _ in range(orchestrators)])
    doors = replicas(gateway, [next(free) for _ in range(gateways)])
    try:
        async with AsyncExitStack() as stack:
            inner = tuple(Wire([each.target]) for each in running)
            entry = Wire([each.target for each in doors])
            for wire in (*inner, entry):
                await stack.enter_async_context(wire.listening())
            behind = {"SHIELDMESH_GATEWAY_ORCHESTRATOR": "ipv4:" + ",".join(wire.address for wire in inner)}
            doors = [replace(each, environment={**each.environment, **behind}) for each in doors]
            settings = {**clean_environment(), **environment}
            mesh = Mesh((shield, inference, *running, *doors), directory, settings)
            try:
                mesh.start()
                yield Fleet(mesh, entry, inner, tuple(each.name for each in doors))
                mesh.stop()
            finally:
                mesh.destroy()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
