"""A real mesh for tests: processes, joined as `shieldmesh up` joins them, to be killed and started at will."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2

from shieldmesh.cli.local.address import claim
from shieldmesh.cli.local.plan import PROCESS, STOP_ORDER, Service, plan_mesh
from tests.e2e.replicas import plan_replicas

ROOT = Path(__file__).resolve().parents[2]
ECHO_MODELS = ROOT / "tests" / "e2e" / "echo.yaml"
"""Models that load at once and repeat what they are told."""
READY_SECONDS = 120.0
STOP_SECONDS = 60.0

if TYPE_CHECKING:
    _Check = grpc.UnaryUnaryMultiCallable[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]

_OPTIONS = (("grpc.max_reconnect_backoff_ms", 200), ("grpc.min_reconnect_backoff_ms", 50))


class Mesh:
    """Running services, by name: shield, inference, orchestrator, gateway; a replica has a number, as in gateway-2.

    Attributes:
        url: Where clients reach the gateway, for `shieldmesh.connect`.
        targets: Where each service listens, in gRPC's notation.
        directory: Where sockets and logs are.
    """

    def __init__(self, services: tuple[Service, ...], directory: Path, environment: Mapping[str, str]) -> None:
        self._services = {service.name: service for service in services}
        self._environment = environment
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.directory = directory
        self.targets = {service.name: service.target for service in services}
        self.url = ",".join(service.target for service in services if service.module == "gateway")

    def start(self, *names: str) -> None:
        """Starts these services (all when none is named) and waits until they are ready."""
        for name in names or self._services:
            self.spawn(name)
        for name in names or self._services:
            self.wait_ready(name)

    def spawn(self, name: str) -> None:
        """Starts a service."""
        service = self._services[name]
        # The parent's id makes sure that no service outlives the tests, however they end.
        command = [sys.executable, "-m", "shieldmesh.leash", str(os.getpid()), service.module]
        with (self.directory / f"{service.name}.log").open("ab") as log:
            self._processes[service.name] = subprocess.Popen(  # noqa: S603  # our own program
                command,
                cwd=ROOT,
                env={**PROCESS, **self._environment, **service.environment, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    def wait_ready(self, name: str) -> None:
        """Waits until the service says that it serves."""
        deadline = time.monotonic() + READY_SECONDS
        with grpc.insecure_channel(self.targets[name], options=_OPTIONS) as channel:
            while not _serving(channel):
                code = self._processes[name].poll()
                assert code is None, f"{name} ended with {code} before it was ready:\n{self.log(name)}"
                assert time.monotonic() < deadline, f"{name} is not ready:\n{self.log(name)}"

    def pid(self, name: str) -> int:
        """The process id of a service."""
        return self._processes[name].pid

    def log(self, name: str) -> str:
        """All that a service logged, over its restarts."""
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def kill(self, name: str) -> None:
        """Ends a service at once, without a chance to say goodbye."""
        self._processes[name].kill()
        self._processes[name].wait(STOP_SECONDS)

    def terminate(self, name: str) -> None:
        """Asks a service to end, and asserts that it does so in good order."""
        process = self._processes.pop(name)
        if process.poll() == -signal.SIGKILL:
            return
        process.send_signal(signal.SIGTERM)
        code = process.wait(STOP_SECONDS)
        assert code == 0, f"{name} ended with {code}:\n{self.log(name)}"
        assert "Traceback" not in self.log(name), self.log(name)

    def stop(self) -> None:
        """Ends what runs, callers first, and asserts that each ends in good order."""
        order = {name: place for place, names in enumerate(STOP_ORDER) for name in names}
        for name in sorted(self._processes, key=lambda name: order[name.partition("-")[0]]):
            self.terminate(name)

    def destroy(self) -> None:
        """Ends what is left, after a test that failed half-way."""
        for process in self._processes.values():
            process.kill()
            process.wait(STOP_SECONDS)


@contextmanager
def running(
    *,
    profiles: Path = ROOT / "profiles",
    models: Path | None = None,
    environment: Mapping[str, str] | None = None,
    start: bool = True,
    replicas: int = 1,
) -> Generator[Mesh]:
    """A mesh of real processes; the end of the block stops it and asserts that it stopped cleanly.

    Args:
        profiles: The directory of the profiles.
        models: The list of models; None: the inference service's own.
        environment: More settings, for example {"SHIELDMESH_GATEWAY_CALL_CAP": "5"}.
        start: Start all services and wait until they are ready.
        replicas: How many of each service, where it is more than one; they need a list of models.
    """
    # Short, unlike pytest's own: a socket's path has 107 bytes.
    directory = Path(tempfile.mkdtemp(prefix="sm-"))
    if replicas > 1 and models is not None:
        services = plan_replicas(replicas, profiles=profiles, models=models)
    else:
        services = plan_mesh(directory, claim("127.0.0.1:0"), profiles=profiles, models=models, log_format="json")
    mesh = Mesh(services, directory, {**clean_environment(), **(environment or {})})
    try:
        if start:
            mesh.start()
        yield mesh
        mesh.stop()
    finally:
        mesh.destroy()
        shutil.rmtree(directory, ignore_errors=True)


def clean_environment() -> dict[str, str]:
    """This process's environment without settings of a mesh."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SHIELDMESH_")}


def _serving(channel: grpc.Channel) -> bool:
    check: _Check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )
    try:
        answer = check(health_pb2.HealthCheckRequest(), timeout=1.0, wait_for_ready=True)
    except grpc.RpcError:
        return False
    return answer.status == health_pb2.HealthCheckResponse.SERVING
