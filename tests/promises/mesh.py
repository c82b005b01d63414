"""The whole mesh in one process: four real servers on Unix sockets, each behind the interceptors it has in production.

What a test sees here and nowhere else: every call that a service serves, with the context it works in, and the engine's
own counters.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import yaml

import shieldmesh
from gateway.proxy import add_proxies
from services.inference.configuration import Configuration
from services.inference.registry import Registry, ServedModel, open_models
from services.inference.servicer import InferenceServicer
from services.orchestrator.flows.catalogue import NO_FLOWS, Catalogue
from services.orchestrator.log.sqlite import open_sqlite
from services.orchestrator.running import RunningTurns, running_turns
from services.orchestrator.servicer import ChatServicer
from services.orchestrator.services import Services
from services.orchestrator.sessions.opening import open_sessions
from services.orchestrator.sessions.servicer import SessionServicer
from services.shield.service import open_service as open_shields
from shieldmesh import channels, context, profile
from shieldmesh.admission import Places
from shieldmesh.context import RequestContext
from shieldmesh.interceptors import INNER, edge
from shieldmesh.interceptors.call import ServerCall, ServerIdentity, ServerInterceptor
from shieldmesh.interceptors.server import MeshInterceptor
from shieldmesh.profile import Profile, Profiles
from shieldmesh.v1 import chat_pb2_grpc, inference_pb2_grpc, session_pb2_grpc
from shieldmesh.v1.inference_pb2_grpc import InferenceServiceStub
from shieldmesh.v1.shield_pb2_grpc import ShieldServiceStub

TIMEOUT: Final = 60.0
"""Seconds until a test gives up waiting. Nothing takes this long."""

SERVICES: Final = ("gateway", "orchestrator", "shield", "inference")

REPLAY: Final[Mapping[str, Any]] = {
    "models": [
        {"name": name, "backend": "replay", "max_running": places, "options": options}
        for name, places, options in (
            ("echo", 1024, {"echo": True}),
            ("never", 1024, {"text": "Never.", "first_token_ms": 600_000}),
            ("narrow", 1, {"text": "Never.", "first_token_ms": 600_000}),
            ("endless", 1024, {"pieces": [" word"] * 20_000, "pace": 500}),
            # 64 MB without a pace: more than all windows on the way to a client take in.
            ("flood", 1024, {"pieces": ["x" * 32_768] * 2_000}),
        )
    ]
}
"""The models of a mesh unless a test says otherwise."""

_METHODS: Final[Mapping[str, Mapping[str, str]]] = {
    "gateway": {f"gateway {name}": f"shieldmesh.v1.ChatService/{name}" for name in ("Chat", "Resume")},
    "orchestrator": {"orchestrator Resume": "shieldmesh.v1.ChatService/Resume"},
    "shield": {f"shield {name}": f"shieldmesh.v1.ShieldService/{name}" for name in ("Inspect", "InspectStream")},
    "inference": {},
}
"""The methods that need places, by the names of those."""

_BORDER: Final = edge(session_values=("tone",))

OpenService = Callable[[grpc.aio.Server], Any]
"""Adds what a service serves to its server; an asynchronous context manager."""


@dataclass(frozen=True, slots=True)
class Served:
    """One call that a service began to serve, as its handler sees it."""

    service: str
    method: str
    context: RequestContext
    remaining: float | None
    """Seconds that were left then."""
    metadata: Mapping[str, str]


@dataclass(slots=True)
class Mesh:
    """A running mesh."""

    directory: Path
    models: Registry
    profiles: dict[str, Profile]
    places: Mapping[str, Places] = field(default_factory=dict[str, Places])
    served: list[Served] = field(default_factory=list[Served])
    around: dict[str, MeshInterceptor] = field(default_factory=dict[str, MeshInterceptor])
    turns: RunningTurns | None = None
    """Those of the orchestrator."""

    def target(self, service: str) -> str:
        """Where a service is, in gRPC's notation."""
        return f"unix:{self.directory / service}.sock"

    @property
    def client(self) -> shieldmesh.Mesh:
        """A client of the gateway."""
        return shieldmesh.connect(self.target("gateway"))

    @property
    def orchestrator(self) -> "chat_pb2_grpc.ChatServiceAsyncStub":
        """The orchestrator without a gateway before it, as an inner service sees it."""
        return chat_pb2_grpc.ChatServiceStub(channels.get(self.target("orchestrator")))

    @property
    def inference(self) -> Any:  # the type of asynchronous stubs exists for type checkers alone
        """The inference service."""
        return InferenceServiceStub(channels.get(self.target("inference")))

    def model(self, name: str = "echo") -> ServedModel:
        """A model with its counters."""
        return self.models.find(name)

    def generated(self) -> int:
        """Tokens that all engines generated."""
        return sum(model.backend.generated_tokens for model in self.models.models.values())

    async def idle(self) -> None:
        """Returns when no service serves a call any more, no engine runs, and the turn log has all."""
        async with asyncio.timeout(TIMEOUT):
            while any(around.running for around in self.around.values()):
                for around in self.around.values():
                    await around.wait_idle()
            await self.logged()
        assert [model.admission.running for model in self.models.models.values()] == [0] * len(self.models.models)

    async def logged(self) -> None:
        """Returns when the turn log has all that was released; it waits for no time then."""
        if self.turns is not None:
            await self.turns.log.find("")

    def calls_of(self, turn: str) -> list[Served]:
        """What was served for a turn."""
        return [call for call in self.served if call.context.request_id == turn]


@asynccontextmanager
async def running(
    directory: Path,
    *,
    profiles: Mapping[str, Mapping[str, Any]] | None = None,
    models: Mapping[str, Any] | Registry = REPLAY,
    replaced: Mapping[str, OpenService] | None = None,
    without: Sequence[str] = (),
    call_cap: float = TIMEOUT,
    window: int = 16_384,
    flows: Catalogue = NO_FLOWS,
    places: Mapping[str, Places] | None = None,
) -> AsyncGenerator[Mesh]:
    """A mesh with these profiles.

    Args:
        directory: For the sockets.
        profiles: Policies by name; a bare one over the model echo when there are none.
        models: Those of the inference service.
        replaced: What services serve instead of the real thing.
        without: Services that are missing.
        call_cap: Seconds that a call may take at each service.
        window: Characters that may wait for a slow reader.
        flows: Those that profiles may name.
        places: Those for "gateway Chat", "shield Inspect" and so on, and for the turns of the "orchestrator".
    """
    async with AsyncExitStack() as stack:
        if not isinstance(models, Registry):
            models = await stack.enter_async_context(open_models(Configuration.model_validate(models)))
        named = {name: policy(name, values) for name, values in (profiles or {"default": {}}).items()}
        mesh = Mesh(directory, models, named, places or {})
        openers = _real(mesh, window, flows) | dict(replaced or {})
        for service in SERVICES:
            if service not in without:
                opening = serving(mesh, service, openers[service], call_cap=call_cap)
                await stack.enter_async_context(opening)
        stack.push_async_callback(channels.close)
        yield mesh


def policy(name: str, values: Mapping[str, Any]) -> Profile:
    """A profile over the model echo, unless its values say otherwise."""
    return profile.parse(name, f"{name}.yaml", yaml.safe_dump({"model": "echo", **values}).encode())


def deny(term: str, action: str = "block", **more: Any) -> dict[str, Any]:
    """A shield that looks for one term."""
    return {"type": "deny_list", "action": action, "options": {"terms": [term]}, **more}


async def eventually(condition: Callable[[], bool]) -> None:
    """Returns when the condition holds; fails after the time limit."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            if condition():
                return
            await asyncio.sleep(0.001)


def tasks_at_work() -> list[str]:
    """All tasks but this one and those in which servers wait for the next call."""
    return [repr(task) for task in asyncio.all_tasks() - {asyncio.current_task()} if "AioServer" not in repr(task)]


@asynccontextmanager
async def serving(
    mesh: Mesh, service: str, opener: OpenService, *, target: str = "", call_cap: float = TIMEOUT
) -> AsyncGenerator[None]:
    """One service of a mesh, at its own target or another."""
    interceptors: tuple[ServerInterceptor, ...] = _BORDER if service == "gateway" else INNER
    limits = {method: mesh.places[name] for name, method in _METHODS[service].items() if name in mesh.places}
    inside = (*interceptors, _notes(mesh.served))
    around = MeshInterceptor(ServerIdentity(service, f"{service}-1", call_cap), inside, limits)
    server = grpc.aio.server(interceptors=[around])
    mesh.around[service] = around
    async with opener(server):
        server.add_insecure_port(target or mesh.target(service))
        await server.start()
        try:
            yield
        finally:
            await server.stop(None)
            async with asyncio.timeout(TIMEOUT):
                await around.wait_idle()


def inference(models: Registry) -> OpenService:
    """The real inference service of these models."""

    @asynccontextmanager
    async def opener(server: grpc.aio.Server) -> AsyncGenerator[None]:
        servicer = InferenceServicer(models, max_characters=10_000_000)
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(servicer, server)
        yield

    return opener


def _notes(served: list[Served]) -> ServerInterceptor:
    """The innermost interceptor: notes what the handler is about to see."""

    @contextmanager
    def note(call: ServerCall) -> Generator[None]:
        ours = context.current()
        served.append(Served(call.server.service, call.method, ours, ours.remaining(), call.metadata))
        yield

    return note


def _real(mesh: Mesh, window: int, flows: Catalogue) -> dict[str, OpenService]:
    @asynccontextmanager
    async def gateway(server: grpc.aio.Server) -> AsyncGenerator[None]:
        add_proxies(server, channels.get(mesh.target("orchestrator")))
        yield

    @asynccontextmanager
    async def orchestrator(server: grpc.aio.Server) -> AsyncGenerator[None]:
        services = Services(
            shields=ShieldServiceStub(channels.get(mesh.target("shield"))),
            models=InferenceServiceStub(channels.get(mesh.target("inference"))),
            window=window,
            flows=flows,
            places=mesh.places.get("orchestrator", Places("orchestrator")),
        )
        async with (
            open_sqlite(None, retention=3600.0, backlog=1_000_000) as log,
            running_turns(log) as turns,
            open_sessions("", turn_retention=3600.0) as sessions,
        ):
            mesh.turns = turns
            servicer = ChatServicer(lambda: Profiles(mesh.profiles), services, turns, sessions)
            chat_pb2_grpc.add_ChatServiceServicer_to_server(servicer, server)
            session_pb2_grpc.add_SessionServiceServicer_to_server(SessionServicer(sessions, turns), server)
            yield

    def shield(server: grpc.aio.Server) -> Any:
        return open_shields(server, default_timeout=5.0, max_characters=100_000_000, kept_shields=64)

    return {"gateway": gateway, "orchestrator": orchestrator, "shield": shield, "inference": inference(mesh.models)}
