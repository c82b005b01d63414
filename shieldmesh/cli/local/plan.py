"""Which processes make a mesh, and what each is told."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from shieldmesh.cli.local.address import check_socket_path, is_private, reach

STOP_ORDER: Final = (("gateway",), ("orchestrator",), ("shield", "inference"))
"""Callers before those they call, so that running turns can end well."""
PROCESS: Final[Mapping[str, str]] = MappingProxyType(
    {
        # The thread of grpc.aio that waits for finished operations waits for the sockets, too. gRPC's event engine has
        # threads of its own for that, which wake the other one: a third to a half more processor time for each message.
        # gRPC reads this when it is imported, so nothing inside the process can say it.
        "GRPC_EXPERIMENTS": "-event_engine_client,-event_engine_listener"
    }
)
"""What the environment of a service's process says where nobody says otherwise; deploy/Containerfile says the same."""


@dataclass(frozen=True, slots=True)
class Service:
    """One process of the mesh."""

    name: str
    module: str
    """`python -m` of it is the service."""
    target: str
    """Where it can be reached, in gRPC's notation."""
    environment: Mapping[str, str]
    """What it is told, beside what the starting process's environment says."""


def plan_mesh(
    sockets: Path,
    listen: str,
    *,
    profiles: Path,
    models: Path | None = None,
    flows: Sequence[str] = (),
    log_format: str = "text",
) -> tuple[Service, ...]:
    """The four services, joined by Unix sockets in the directory `sockets`, the gateway on `listen`.

    Raises:
        AddressError: the directory's path is too long.
    """
    names = ("shield", "inference", "orchestrator")
    shield, inference, orchestrator = (f"unix:{sockets / name}.sock" for name in names)
    check_socket_path(orchestrator.removeprefix("unix:"))
    log = {"LOG_FORMAT": log_format}
    # Whoever can call the gateway could look at everybody's turns: others than this machine's users must not.
    diagnostics = {"DIAGNOSTICS": "true"} if is_private(listen) else {}
    return (
        _service("shield", "services.shield", shield, log | {"INFERENCE": inference}),
        _service("inference", "services.inference", inference, log | ({"MODELS": str(models)} if models else {})),
        _service(
            "orchestrator",
            "services.orchestrator",
            orchestrator,
            log
            | {"SHIELD": shield, "INFERENCE": inference, "PROFILES": str(profiles)}
            | ({"FLOWS": json.dumps(flows)} if flows else {}),
        ),
        _service("gateway", "gateway", listen, log | {"ORCHESTRATOR": orchestrator} | diagnostics),
    )


def _service(name: str, module: str, listen: str, settings: Mapping[str, str]) -> Service:
    prefix = f"SHIELDMESH_{name.upper()}_"
    environment = {f"{prefix}LISTEN": listen} | {f"{prefix}{key}": value for key, value in settings.items()}
    return Service(name, module, reach(listen), environment)


def replicas(service: Service, addresses: Sequence[str]) -> list[Service]:
    """The same service on each of these addresses, the first with its own name and the others with a number behind."""
    key = f"SHIELDMESH_{service.name.upper()}_LISTEN"
    return [
        replace(
            service,
            name=service.name if number == 1 else f"{service.name}-{number}",
            target=reach(address),
            environment={**service.environment, key: address},
        )
        for number, address in enumerate(addresses, start=1)
    ]
