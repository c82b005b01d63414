"""The mesh that is measured: its services as processes of this machine, with engines that cost next to nothing."""

import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import yaml

from shieldmesh.cli.local.address import claim
from shieldmesh.cli.local.mesh import running_mesh
from shieldmesh.cli.local.plan import Service, plan_mesh, replicas

from . import processes, upstream
from .load import Load
from .quiet import Pids
from .system import Engines, Running, StartError, free_port, program

ROOT: Final = Path(__file__).resolve().parents[1]
GUARDS: Final[dict[str, Any]] = {  # Any: YAML
    "input": {"shields": [{"type": "secrets", "action": "block"}, {"type": "pii", "action": "flag"}]},
    "output": {"shields": [{"type": "secrets", "action": "redact"}, {"type": "pii", "action": "redact"}]},
}
"""The match shields of the profile that the project ships as the default one, on both ways."""
_CONNECTIONS: Final = 8
"""Of the client for each worker: the kernel deals them out by chance."""


@dataclass(frozen=True, slots=True)
class Bed:
    """How a mesh is set up."""

    guarded: bool = True
    trace_ratio: float = 1.0
    over_http: bool = False
    """The engine is an OpenAI-compatible server, the same one that peers get, and not part of the mesh."""
    root: Path = ROOT
    """The checkout whose services run."""
    environment: Mapping[str, str] | None = None
    """Settings of the services beside these."""
    redis: bool = False
    """The turn log is in a Redis that is started with the mesh and is part of it."""
    workers: int = 1
    """Of the gateway, between which the client's connections are dealt out."""
    replicas: int = 1
    """Of the gateway and of the orchestrator, between which turns are dealt out one by one."""
    cores: frozenset[int] = frozenset()
    """The processors that the services may use; all when none is named."""


@asynccontextmanager
async def running(bed: Bed, engines: Engines) -> AsyncGenerator[Running]:
    """A mesh with a model and a profile for each engine."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sm-")))
        address = await stack.enter_async_context(upstream.serving(engines)) if bed.over_http else ""
        write_models(directory / "models.yaml", engines, address)
        _write_profiles(directory / "profiles", engines, guarded=bed.guarded)
        services = plan_mesh(
            directory,
            claim("127.0.0.1:0"),
            profiles=directory / "profiles",
            models=directory / "models.yaml",
            log_format="json",
        )
        if bed.replicas > 1:
            services = _replicated(services, bed.replicas)
        environment = {
            **os.environ,
            "SHIELDMESH_GATEWAY_TRACE_RATIO": str(bed.trace_ratio),
            "SHIELDMESH_GATEWAY_WORKERS": str(bed.workers),
            **(bed.environment or {}),
        }
        seen = Pids()
        if bed.redis:
            port = free_port()
            seen.pids["redis"] = await stack.enter_async_context(program(_redis(directory, port), port))
            environment["SHIELDMESH_ORCHESTRATOR_TURN_LOG"] = f"redis://127.0.0.1:{port}"
        targets = {service.name: service.target for service in services}
        entry = ",".join(service.target for service in services if service.module == "gateway")
        await stack.enter_async_context(running_mesh(services, bed.root, environment, seen))
        if bed.cores:
            processes.confine(seen.pids, set(bed.cores))
        chat = Load(f"ipv4:{entry}", "chat", connections=1 if bed.workers == 1 else _CONNECTIONS * bed.workers)
        alone = Load(address, "openai") if bed.over_http else Load(targets["inference"], "engine")
        yield Running(chat, alone, seen.pids)


def _replicated(services: Sequence[Service], count: int) -> tuple[Service, ...]:
    """So many gateways and orchestrators, over one shield and one inference service."""
    shield, inference, orchestrator, gateway = services
    free = (claim("127.0.0.1:0") for _ in range(2 * count))
    running = replicas(orchestrator, [next(free) for _ in range(count)])
    doors = replicas(gateway, [next(free) for _ in range(count)])
    behind = {"SHIELDMESH_GATEWAY_ORCHESTRATOR": "ipv4:" + ",".join(each.target for each in running)}
    doors = [replace(each, environment={**each.environment, **behind}) for each in doors]
    return (shield, inference, *running, *doors)


def _redis(directory: Path, port: int) -> list[str]:
    """Append-only, synchronised every second, as a log that may lose a second of turns with its machine would be."""
    server = shutil.which("redis-server")
    if server is None:
        raise StartError("there is no redis-server: install Redis 7 or Valkey")
    return [server, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--appendonly", "yes"]


def write_models(path: Path, engines: Engines, address: str = "") -> None:
    """A models.yaml with these engines: scripts, or the models of the OpenAI-compatible server at `host:port`."""
    models: list[dict[str, Any]] = []
    for name, engine in engines.items():
        model: dict[str, Any]
        if engine.real:
            model = {"backend": "llamacpp", "max_running": 4}
        elif address:
            model = {"backend": "openai", "options": {"url": f"http://{address}/v1", "model": name}}
        else:
            model = {"backend": "replay", "options": dict(engine.options)}
        models.append({"name": name, "max_running": 4_096} | model)
    path.write_text(yaml.safe_dump({"models": models}))


def _write_profiles(directory: Path, engines: Engines, *, guarded: bool) -> None:
    directory.mkdir()
    for name, engine in engines.items():
        policy: dict[str, Any] = {"model": name, "limits": {"duration": 3_600}, **(GUARDS if guarded else {})}
        if engine.real:
            policy |= {"sampling": {"max_tokens": engine.tokens}, "model_options": engine.options}
        (directory / f"{name}.yaml").write_text(yaml.safe_dump(policy))
