"""`shieldmesh trace` against real processes."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

import shieldmesh
from shieldmesh.cli.local.plan import Service
from shieldmesh.v1 import diagnostics_pb2
from tests.e2e.mesh import ECHO_MODELS, ROOT, Mesh, clean_environment, running

LIMIT = 60.0
"""Seconds after which a test that hangs fails."""
DIAGNOSTICS = diagnostics_pb2.DESCRIPTOR.services_by_name["DiagnosticsService"].full_name


@pytest.fixture(scope="module")
def echo() -> Generator[Mesh]:
    """A mesh whose services may be killed."""
    with running(models=ECHO_MODELS) as mesh:
        yield mesh


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603  # our own program
        [sys.executable, "-m", "shieldmesh", *arguments],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def trace(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run("trace", "--url", url, *arguments)


@contextmanager
def plain_gateway(mesh: Mesh) -> Generator[str]:
    """One more gateway of the mesh, told nothing but where the orchestrator is; the value is its URL."""
    with tempfile.TemporaryDirectory(prefix="sm-") as directory:
        target = f"unix:{directory}/gateway.sock"
        settings = {"LISTEN": target, "ORCHESTRATOR": mesh.targets["orchestrator"]}
        environment = {f"SHIELDMESH_GATEWAY_{name}": value for name, value in settings.items()}
        gateway = Mesh((Service("gateway", "gateway", target, environment),), Path(directory), clean_environment())
        try:
            gateway.start()
            yield gateway.url
            gateway.stop()
        finally:
            gateway.destroy()


def turn(url: str, prompt: str = "hello there") -> shieldmesh.Started:
    with shieldmesh.connect_sync(url) as client:
        return client.chat(prompt, profile="echo", session="s-1", timeout=LIMIT).result().started


def services(url: str) -> set[str]:
    """What reflection lists."""
    with grpc.insecure_channel(url) as channel:
        return set(ProtoReflectionDescriptorDatabase(channel).get_services())


def test_a_turn_is_one_tree_over_all_services(echo: Mesh) -> None:
    """Right after its end: the root, the services below one another, each shield, queue and engine; no text of it."""
    started = turn(echo.url, "My card is 4111 1111 1111 1111.")
    found = trace(echo.url, started.turn_id)
    assert found.returncode == 0, found.stdout + found.stderr
    lines = found.stdout.splitlines()
    for name, value in (("turn", started.turn_id), ("session", "s-1"), ("trace", started.trace_id)):
        assert f"{name:<7} {value}" in lines
    rows = [line.split("━")[0].rstrip() for line in lines if "━" in line]
    assert rows[:2] == ["gateway Chat", "└─ orchestrator Chat"]
    assert [row for row in rows if row.endswith("shield InspectStream")]
    shields = {"pii", "secrets", "deny_list"}
    assert {row.split()[-1] for row in rows} >= shields | {"queue", "engine", "Generate"}
    assert "4111 1111" not in found.stdout
    assert "this is not all" not in found.stdout


def test_the_same_as_json_is_one_trace_with_exact_parents(echo: Mesh) -> None:
    """One root, one trace, and every other span's parent is there; text is nowhere."""
    started = turn(echo.url, "Call Ada Lovelace at 415 555 2671.")
    found = trace(echo.url, "--json", started.turn_id)
    spans = cast("list[dict[str, Any]]", json.loads(found.stdout)["spans"])
    assert {span["trace_id"] for span in spans} == {started.trace_id}
    assert [span["name"] for span in spans if not span["parent_span_id"]] == ["shieldmesh.v1.ChatService/Chat"]
    ids = {span["span_id"] for span in spans}
    assert all(span["parent_span_id"] in ids for span in spans if span["parent_span_id"])
    assert {span["service"] for span in spans} == {"gateway", "orchestrator", "shield", "inference"}
    assert not any(span["failed"] for span in spans)
    assert not any(word in found.stdout for word in ("Lovelace", "415 555 2671", "555 2671"))


def test_looking_and_examining_leave_the_memory_alone(echo: Mesh) -> None:
    """A turn is found after any number of diagnostic calls, and they themselves are no turns."""
    started = turn(echo.url)
    before = trace(echo.url, "--json", started.turn_id).stdout
    assert run("doctor", echo.url).returncode == 0
    assert trace(echo.url, "--json", started.turn_id).stdout == before
    assert "DiagnosticsService" not in before


def test_what_a_dead_service_knew_is_missing(echo: Mesh) -> None:
    """The others tell their parts, and its calls are shown as its caller saw them."""
    started = turn(echo.url)
    echo.kill("inference")
    found = trace(echo.url, started.turn_id)
    echo.start("inference")
    assert found.returncode == 0, found.stderr
    assert "→ Generate" in found.stdout
    assert "shield InspectStream" in found.stdout


def test_a_gateway_serves_diagnostics_only_when_told(echo: Mesh) -> None:
    """Reflection of the mesh's gateway lists them; a gateway with default settings neither lists nor serves them."""
    assert DIAGNOSTICS in services(echo.url)
    with plain_gateway(echo) as url:
        assert DIAGNOSTICS not in services(url)
        found = trace(url, turn(url).turn_id)
    assert found.returncode == 1
    assert "SHIELDMESH_GATEWAY_DIAGNOSTICS=true" in found.stderr
