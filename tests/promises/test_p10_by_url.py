"""P10: the same call gives the same result and the same typed error in process, on another port, or on another machine.

A module is reached in four ways: in this process without a connection, by a Unix socket, by TCP, and by TCP with TLS.
Behind it is each time a mesh with its shields, or a model's service. Only ids and times may differ.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

import shieldmesh
from gateway.proxy import add_proxies
from services.inference.servicer import InferenceServicer
from shieldmesh import (
    Action,
    Delta,
    Direction,
    Event,
    Finding,
    Finished,
    FinishReason,
    Hop,
    MeshError,
    Module,
    Receipt,
    Sampling,
    Started,
    Timings,
    Usage,
    Verdict,
    channels,
    context,
    inprocess,
)
from shieldmesh.context import RequestContext
from shieldmesh.interceptors import EDGE, INNER
from shieldmesh.interceptors.call import ServerCall, ServerIdentity, ServerInterceptor
from shieldmesh.interceptors.server import MeshInterceptor
from shieldmesh.v1 import inference_pb2_grpc

from .mesh import TIMEOUT, Mesh, deny, eventually, running, tasks_at_work
from .observing import observed

CALL_CAP = 6 * TIMEOUT
"""Seconds that a server allows: what a test waits for must not happen by this limit."""
CHAT = "shieldmesh.v1.ChatService/Chat"
GENERATE = "shieldmesh.v1.InferenceService/Generate"

PROFILES: dict[str, dict[str, Any]] = {
    "guarded": {"output": {"shields": [deny("bluebird", "redact")]}, "allow_overrides": ["max_tokens"]},
    "broken": {"model_options": {"text": "one two three", "fail_after": 2}},
    "endless": {"model": "endless"},
}
MODELS = {
    "models": [
        {"name": name, "backend": "replay", "max_running": 16, "options": options}
        for name, options in (
            ("echo", {"echo": True}),
            ("broken", {"text": "one two three", "fail_after": 2}),
            ("endless", {"pieces": [" word"] * 20_000, "pace": 500}),
            ("never", {"text": "Never.", "first_token_ms": 600_000}),
        )
    ]
}


@dataclass(frozen=True, slots=True)
class Doors:
    """How a mesh and its models are reached in one way."""

    mesh: Mesh
    url: Callable[[str, str], str]
    """The URL of a module of a kind, "mesh" or "grpc", with a name."""
    callers: list[str]
    """The sessions in whose name they were called."""

    def to(self, kind: str, name: str) -> Module:
        """A module."""
        return Module(self.url(kind, name))


@asynccontextmanager
async def reached(way: str, directory: Path) -> AsyncGenerator[Doors]:
    """A mesh with one more gateway and one more inference service, both to be reached this way."""
    authority = trustme.CA()
    (directory / "ca.pem").write_bytes(authority.cert_pem.bytes())
    async with running(directory, profiles=PROFILES, models=MODELS) as mesh:
        places: dict[str, str] = {}
        callers: list[str] = []

        @contextmanager
        def note(call: ServerCall) -> Generator[None]:
            del call
            callers.append(context.current().session_id)
            yield

        servers: list[tuple[grpc.aio.Server, MeshInterceptor]] = []
        for kind, service, interceptors in (("mesh", "gateway", EDGE), ("grpc", "inference", INNER)):
            server, around = _server(way, service, (*interceptors, note))
            if kind == "mesh":
                add_proxies(server, channels.get(mesh.target("orchestrator")))
            else:
                servicer = InferenceServicer(mesh.models, max_characters=1_000_000)
                inference_pb2_grpc.add_InferenceServiceServicer_to_server(servicer, server)
            places[kind] = _listen(server, way, kind, directory, authority)
            mesh.around[f"{service}, {way}"] = around
            await server.start()
            servers.append((server, around))
        yield Doors(mesh, lambda kind, name: places[kind].format(name=name), callers)
        for server, around in servers:
            await server.stop(None)
            await around.wait_idle()


def _server(
    way: str, service: str, interceptors: tuple[ServerInterceptor, ...]
) -> tuple[grpc.aio.Server, MeshInterceptor]:
    around = MeshInterceptor(ServerIdentity(service, f"{service}-1", CALL_CAP), interceptors)
    return inprocess.Server([around]) if way == "inprocess" else grpc.aio.server(interceptors=[around]), around


def _listen(server: grpc.aio.Server, way: str, kind: str, directory: Path, authority: trustme.CA) -> str:
    """Serves, and says the URL of what is served, with a place for the name."""
    option = "profile" if kind == "mesh" else "model"
    match way:
        case "inprocess":
            server.add_insecure_port(f"inprocess:{kind}")
            return f"{kind}+inprocess:{kind}?{option}={{name}}"
        case "unix":
            server.add_insecure_port(f"unix:{directory / kind}.door")
            return f"{kind}+unix:{directory / kind}.door?{option}={{name}}"
        case "tcp":
            return f"{kind}://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}/{{name}}"
        case _:
            certificate = authority.issue_cert("localhost")
            chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
            credentials = grpc.ssl_server_credentials([(certificate.private_key_pem.bytes(), chain)])
            port = server.add_secure_port("localhost:0", credentials)
            return f"{kind}s://localhost:{port}/{{name}}?ca={directory / 'ca.pem'}"


def alike(events: list[Event]) -> list[Event]:
    """The events without ids and times, all deltas in the place of the first: how many came is a matter of time."""
    told: list[Event] = []
    text, tokens, at = "", 0, 0
    for event in events:
        match event:
            case Started():
                assert event.session_id == "s-1"
                told.append(replace(event, sequence=0, turn_id="", trace_id="", profile_version=""))
            case Delta():
                at = at or len(told)
                text, tokens = text + event.text, tokens + event.token_count
            case Verdict():
                told.append(replace(event, sequence=0))
            case Finished():
                receipt = replace(event.receipt, longest_hold=0.0, most_held_characters=0, holds=())
                told.append(replace(event, sequence=0, timings=Timings(), receipt=receipt))
            case _:
                told.append(event)
    told.insert(at, Delta(0, text, token_count=tokens))
    return told


@dataclass(frozen=True, slots=True)
class Kind:
    """What is to be seen of one kind of module, by whichever way.

    Attributes:
        works: A name that repeats the last message.
        events: What it says to "a bluebird sings on", three tokens of it.
        path: Of an error at the engine.
        missing: The reason and the field of the error about a name that is none.
        short: The path of that.
    """

    name: str
    works: str
    events: tuple[Event, ...]
    path: tuple[tuple[str, str], ...]
    missing: tuple[str, str]
    short: tuple[tuple[str, str], ...]


FOUND = (Finding("denied_term", 2, 10, 1.0),)
USED = Usage(4, 0, 3, 7)
MESH = Kind(
    "mesh",
    "guarded",
    (
        Started(0, "", "s-1", "guarded", "", "echo", ""),
        Delta(0, "a [DENIED_TERM] sings", token_count=3),
        Verdict(0, "deny_list", Direction.OUTPUT, Action.REDACT, FOUND),
        Finished(0, FinishReason.LENGTH, USED, Receipt(16, 8, 8, output_shields=("deny_list",)), Timings()),
    ),
    (("gateway", CHAT), ("orchestrator", CHAT), ("inference", GENERATE)),
    ("PROFILE_NOT_FOUND", "profile"),
    (("gateway", CHAT), ("orchestrator", CHAT)),
)
MODEL = Kind(
    "grpc",
    "echo",
    (
        Started(0, "", "s-1", "", "", "echo", ""),
        Delta(0, "a bluebird sings", token_count=3),
        Finished(0, FinishReason.LENGTH, USED, Receipt(16, 16), Timings()),
    ),
    (("inference", GENERATE),),
    ("MODEL_NOT_FOUND", "model"),
    (("inference", GENERATE),),
)


@pytest.mark.parametrize("way", ["inprocess", "unix", "tcp", "tls"])
@pytest.mark.parametrize("kind", [MESH, MODEL], ids=lambda kind: kind.name)
async def test_by_any_way(tmp_path: Path, way: str, kind: Kind) -> None:
    """The events, the error of a failure on the way, that of a wrong name, and the stop are the same."""
    with observed() as seen, context.use(RequestContext(session_id="s-1")):
        async with reached(way, tmp_path) as doors:
            repeats = doors.to(kind.name, kind.works)
            answer = repeats.chat("a bluebird sings on", sampling=Sampling(max_tokens=3), timeout=TIMEOUT)
            assert alike([event async for event in answer]) == list(kind.events)
            failure = await _failing(doors.to(kind.name, "broken"))
            wrong = await _failing(doors.to(kind.name, "nobody"))
            async with doors.to(kind.name, "endless").chat("go on", timeout=TIMEOUT) as endless:
                for _ in range(3):
                    await anext(endless)
                assert doors.mesh.model("endless").admission.running == 1
            await doors.mesh.idle()
            await eventually(lambda: not seen.spans.open)
        await eventually(lambda: not tasks_at_work())
        traces = seen.spans.traces()
    assert (type(failure), failure.reason, failure.field) == (shieldmesh.InternalError, "ENGINE_FAILED", "")
    assert (type(wrong), wrong.reason, wrong.field) == (shieldmesh.NotFoundError, *kind.missing)
    _has_path(failure, kind.path, traces)
    _has_path(wrong, kind.short, traces)
    assert set(doors.callers) == {"s-1"}
    assert {line["event"] for line in seen.warnings()} <= {"turn failed"}


async def _failing(module: Module) -> MeshError:
    with pytest.raises(MeshError) as caught:
        await module.ask("hello", timeout=TIMEOUT)
    return caught.value


def _has_path(error: MeshError, path: tuple[tuple[str, str], ...], traces: dict[str, str]) -> None:
    """The error's path has this shape: known services, one trace, times within one another."""
    hops: tuple[Hop, ...] = error.hops
    assert tuple((hop.service, hop.method) for hop in hops) == path
    assert [hop.instance for hop in hops] == [f"{hop.service}-1" for hop in hops]
    assert len({traces[hop.span_id] for hop in hops}) == 1
    assert {hop.reason for hop in hops} == {error.reason}
    elapsed = [hop.elapsed for hop in hops]
    assert elapsed == sorted(elapsed, reverse=True)


async def test_the_clients_with_tls(tmp_path: Path) -> None:
    """Both clients of a mesh talk to one behind TLS whose authority they are given, and to no other."""
    async with reached("tls", tmp_path) as doors:
        url = doors.url("mesh", "").replace("/?", "?")
        assert url.startswith("meshs://")
        assert await shieldmesh.connect(url).chat("hi", profile="guarded", timeout=TIMEOUT).text() == "hi"

        def blocking() -> str:
            with shieldmesh.connect_sync(url) as mesh:
                return mesh.chat("hi", profile="guarded", timeout=TIMEOUT).text()

        assert await asyncio.to_thread(blocking) == "hi"
        with pytest.raises(shieldmesh.UnavailableError):
            await shieldmesh.connect(url.partition("?")[0]).chat("hi", timeout=TIMEOUT).text()


async def test_no_server_of_this_name_in_this_process() -> None:
    """A target in this process that nobody serves is UNAVAILABLE, as everywhere else."""
    with pytest.raises(shieldmesh.UnavailableError):
        await Module("grpc+inprocess:nobody?model=echo").ask("hello", timeout=TIMEOUT)


@pytest.mark.parametrize("end", ["timeout", "leaving"])
async def test_a_call_in_this_process_that_waits_is_ended(tmp_path: Path, end: str) -> None:
    """Timeouts and cancellations reach a service that waits, without a connection, too."""
    async with reached("inprocess", tmp_path) as doors:
        model = doors.mesh.model("never")
        if end == "timeout":
            with pytest.raises(shieldmesh.DeadlineExceededError):
                await doors.to("grpc", "never").ask("go on", timeout=0.05)
        else:
            async with doors.to("grpc", "never").chat("go on", timeout=CALL_CAP) as answer:
                await anext(answer)
                assert model.admission.running == 1
        await doors.mesh.idle()
        assert model.admission.running == 0
