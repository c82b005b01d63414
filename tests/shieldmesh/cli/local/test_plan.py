"""Which processes make a mesh."""

import subprocess
import sys
from pathlib import Path

import pytest

from shieldmesh.cli.local.address import AddressError
from shieldmesh.cli.local.plan import PROCESS, STOP_ORDER, plan_mesh


def test_each_service_is_told_where_the_others_are() -> None:
    """The gateway finds the orchestrator, and the orchestrator shield and inference, by their sockets."""
    planned = plan_mesh(Path("/run/m"), "0.0.0.0:7", profiles=Path("/p"), models=Path("/m.yaml"), log_format="json")
    services = {service.name: service for service in planned}
    assert services["gateway"].target == "127.0.0.1:7"
    assert services["gateway"].environment == {
        "SHIELDMESH_GATEWAY_LISTEN": "0.0.0.0:7",
        "SHIELDMESH_GATEWAY_LOG_FORMAT": "json",
        "SHIELDMESH_GATEWAY_ORCHESTRATOR": services["orchestrator"].target,
    }
    orchestrator = services["orchestrator"].environment
    assert orchestrator["SHIELDMESH_ORCHESTRATOR_SHIELD"] == services["shield"].target == "unix:/run/m/shield.sock"
    assert orchestrator["SHIELDMESH_ORCHESTRATOR_INFERENCE"] == services["inference"].target
    assert orchestrator["SHIELDMESH_ORCHESTRATOR_PROFILES"] == "/p"
    assert services["inference"].environment["SHIELDMESH_INFERENCE_MODELS"] == "/m.yaml"


@pytest.mark.parametrize(
    ("listen", "served"), [("127.0.0.1:7", True), ("unix:/run/g.sock", True), ("0.0.0.0:7", False)]
)
def test_a_mesh_for_this_machine_alone_serves_diagnostics(listen: str, *, served: bool) -> None:
    """Where others can reach the gateway, only its own setting turns them on."""
    gateway = plan_mesh(Path("/run/m"), listen, profiles=Path("/p"))[-1]
    assert ("SHIELDMESH_GATEWAY_DIAGNOSTICS" in gateway.environment) is served


def test_every_service_is_stopped() -> None:
    """The order of stopping names each service once."""
    names = [name for together in STOP_ORDER for name in together]
    assert sorted(names) == sorted(service.name for service in plan_mesh(Path("/s"), "h:1", profiles=Path("/p")))


def test_sockets_in_too_long_a_directory_are_refused() -> None:
    """The longest socket path decides."""
    with pytest.raises(AddressError, match="at most 107"):
        plan_mesh(Path("/" + "d" * 90), "h:1", profiles=Path("/p"))


@pytest.mark.parametrize(("more", "complaint"), [("", False), (",no_such_thing", True)])
def test_grpc_knows_what_its_experiments_are_called(more: str, *, complaint: bool) -> None:
    """The names in the environment of services mean something to this version of gRPC, which else says so."""
    environment = {**PROCESS, "GRPC_EXPERIMENTS": PROCESS["GRPC_EXPERIMENTS"] + more}
    command = [sys.executable, "-c", "import grpc"]
    run = subprocess.run(  # noqa: S603  # our own program
        command, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert ("Unknown experiment" in run.stderr) is complaint
