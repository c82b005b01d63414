"""A mesh of several replicas of each service, joined by TCP: every caller balances over all of those it calls."""

from collections.abc import Mapping
from pathlib import Path

from shieldmesh.cli.local.address import claim
from shieldmesh.cli.local.plan import Service

MODULES: Mapping[str, str] = {
    "shield": "services.shield",
    "inference": "services.inference",
    "orchestrator": "services.orchestrator",
    "gateway": "gateway",
}


def plan_replicas(count: int, *, profiles: Path, models: Path) -> tuple[Service, ...]:
    """So many of each service, called gateway-1 and so on."""
    addresses: dict[str, list[str]] = {}
    for name in MODULES:
        while len(set(addresses.get(name, []))) < count:
            addresses.setdefault(name, []).append(claim("127.0.0.1:0"))
    targets = {name: f"ipv4:{','.join(listens)}" for name, listens in addresses.items()}
    callees = {
        "shield": {},
        "inference": {"MODELS": str(models)},
        "orchestrator": {
            "SHIELD": targets["shield"],
            "INFERENCE": targets["inference"],
            "PROFILES": str(profiles),
        },
        "gateway": {"ORCHESTRATOR": targets["orchestrator"]},
    }
    return tuple(
        Service(
            f"{name}-{number}",
            module,
            listen,
            {f"SHIELDMESH_{name.upper()}_{key}": value for key, value in {"LISTEN": listen, **callees[name]}.items()},
        )
        for name, module in MODULES.items()
        for number, listen in enumerate(addresses[name], start=1)
    )
