"""P11: a failure anywhere reaches the client as one typed error with the call path from the entry to what failed.

Each hop is in the path once, the failing one last, and nobody's words or secrets are in it.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

import shieldmesh
from services.inference.backend import GenerationRequest
from services.inference.replay import ReplayBackend, ReplayOptions
from shieldmesh import Hop, MeshError, context
from shieldmesh.v1 import inference_pb2, inference_pb2_grpc, shield_pb2

from .fakes import HangingShields, registry, shields
from .mesh import TIMEOUT, Mesh, deny, inference, running, serving
from .observing import observed

PROMPT = "my-prompt-marker"
SECRET = "exception-text-marker"
CHAT = "shieldmesh.v1.ChatService/Chat"
GENERATE = "shieldmesh.v1.InferenceService/Generate"
INSPECT = "shieldmesh.v1.ShieldService/Inspect"
INSPECT_STREAM = "shieldmesh.v1.ShieldService/InspectStream"
ENTRY = [("gateway", CHAT), ("orchestrator", CHAT)]

INPUT_SHIELD = {"input": {"shields": [deny("bluebird")]}}
OUTPUT_SHIELD = {"output": {"shields": [deny("bluebird")]}}


async def failing(mesh: Mesh, **arguments: Any) -> MeshError:
    """The error that a turn of this mesh ends with, the same for both clients, after the mesh has come to rest."""
    client = shieldmesh.connect(mesh.target("gateway"), reconnect=None)
    with pytest.raises(MeshError) as caught:
        await client.chat(PROMPT, timeout=TIMEOUT, **arguments).result()

    def blocking() -> None:
        with shieldmesh.connect_sync(mesh.target("gateway"), reconnect=None) as client:
            client.chat(PROMPT, timeout=TIMEOUT, **arguments).result()

    with pytest.raises(MeshError) as again:
        await asyncio.to_thread(blocking)
    assert (type(again.value), path(again.value)) == (type(caught.value), path(caught.value))
    await mesh.idle()
    return caught.value


def path(error: MeshError) -> list[tuple[str, str]]:
    """The services and methods of the hops."""
    return [(hop.service, hop.method) for hop in error.hops]


def check(error: MeshError, reason: str, *expected: tuple[str, str], absent: bool = False) -> None:
    """The error has this reason and exactly these hops, each complete, and says nothing that is nobody's business.

    Args:
        error: What the client caught.
        reason: Its reason.
        expected: Service and method of each hop.
        absent: The last hop never answered: nothing is known of it but its name.
    """
    assert error.reason == reason
    assert path(error) == list(expected)
    answering = error.hops[:-1] if absent else error.hops
    assert [hop.instance for hop in answering] == [f"{hop.service}-1" for hop in answering]
    spans = [hop.span_id for hop in answering]
    assert all(len(span) == 16 for span in spans)
    assert len(set(spans)) == len(spans)
    # What a hop waited for is a part of its own time.
    elapsed = [hop.elapsed for hop in answering]
    assert elapsed == sorted(elapsed, reverse=True)
    assert elapsed[-1] > 0
    assert {hop.reason for hop in error.hops} == {reason}
    _is_a_tree(str(error), error.hops)
    for said in (str(error), repr(error), repr(error.hops)):
        assert PROMPT not in said
        assert SECRET not in said
        assert "Traceback" not in said


def _is_a_tree(text: str, hops: tuple[Hop, ...]) -> None:
    lines = text.splitlines()[1:]
    assert len(lines) == len(hops)
    for depth, (line, hop) in enumerate(zip(lines, hops, strict=True)):
        assert line.startswith("   " * depth + f"└─ {hop.service} {hop.method}")
        assert hop.instance in line
        assert hop.reason in line


class BrokenShields(HangingShields):
    """Shields whose work in a thread raises, on either way."""

    async def Inspect(  # noqa: N802  # the contract's name
        self, request: shield_pb2.InspectRequest, context: object
    ) -> shield_pb2.InspectResponse:
        del context
        await _break_in_a_thread(request.texts[0])
        return shield_pb2.InspectResponse()

    async def InspectStream(  # noqa: N802  # the contract's name
        self, request_iterator: AsyncIterator[shield_pb2.InspectStreamRequest], context: object
    ) -> AsyncGenerator[shield_pb2.InspectStreamResponse]:
        del context
        yield shield_pb2.InspectStreamResponse(opened=shield_pb2.InspectOpened())
        async for request in request_iterator:
            if request.HasField("text"):
                await _break_in_a_thread(request.text.text)


async def _break_in_a_thread(text: str) -> None:
    def work() -> None:
        raise ValueError(f"{SECRET} {text} {context.current().session_id}")

    await context.run_in_thread(work)


@pytest.mark.parametrize(("guard", "method"), [(INPUT_SHIELD, INSPECT), (OUTPUT_SHIELD, INSPECT_STREAM)])
async def test_a_failure_in_a_thread_of_a_shield(tmp_path: Path, guard: dict[str, Any], method: str) -> None:
    """A defect of the shield service, in a thread: three hops, INTERNAL, and nothing of the exception's text."""
    with observed() as seen:
        async with running(
            tmp_path, profiles={"default": guard}, replaced={"shield": shields(BrokenShields())}
        ) as mesh:
            error = await failing(mesh)
    assert isinstance(error, shieldmesh.InternalError)
    check(error, "INTERNAL", *ENTRY, ("shield", method))
    assert SECRET not in seen.stream.getvalue()
    assert PROMPT not in seen.stream.getvalue()


async def test_a_failure_of_the_engine_in_the_middle_of_the_stream(tmp_path: Path) -> None:
    """An engine that fails after some tokens: what was released stays, and then comes one error with three hops."""
    profile = {"model_options": {"text": "one two three four", "fail_after": 2}}
    with observed():
        async with running(tmp_path, profiles={"default": profile}) as mesh:
            error = await failing(mesh)
            events, again = await _until_it_fails(mesh.client.chat(PROMPT, timeout=TIMEOUT))
    assert "".join(event.text for event in events if isinstance(event, shieldmesh.Delta)) == "one two"
    assert path(again) == path(error)
    assert isinstance(error, shieldmesh.InternalError)
    check(error, "ENGINE_FAILED", *ENTRY, ("inference", GENERATE))


class BrokenBackend(ReplayBackend):
    """A backend with a defect."""

    def __init__(self) -> None:
        super().__init__(ReplayOptions(echo=True))

    def generate(self, request: GenerationRequest) -> Any:
        raise ValueError(f"{SECRET} {request.messages[-1].text}")


async def test_a_defect_in_a_service(tmp_path: Path) -> None:
    """An exception that nobody foresaw arrives sanitised, at the client and in the log."""
    with observed() as seen:
        async with running(
            tmp_path, profiles={"default": {"model": "broken"}}, models=registry(broken=BrokenBackend())
        ) as mesh:
            error = await failing(mesh)
    check(error, "INTERNAL", *ENTRY, ("inference", GENERATE))
    assert any("ValueError" in line["event"] for line in seen.lines())
    assert SECRET not in seen.stream.getvalue()
    assert PROMPT not in seen.stream.getvalue()


@pytest.mark.parametrize(
    ("missing", "hops"),
    [
        ("orchestrator", ENTRY),
        ("inference", [*ENTRY, ("inference", GENERATE)]),
        ("shield", [*ENTRY, ("shield", INSPECT_STREAM)]),
    ],
)
async def test_a_service_that_is_missing(tmp_path: Path, missing: str, hops: list[tuple[str, str]]) -> None:
    """A service that nobody serves is the last hop, with its name and UNAVAILABLE, and no address."""
    with observed():
        async with running(tmp_path, profiles={"default": OUTPUT_SHIELD}, without=[missing]) as mesh:
            error = await failing(mesh)
    assert isinstance(error, shieldmesh.UnavailableError)
    check(error, "SERVICE_UNAVAILABLE", *hops, absent=True)
    # The hop before it tried again, and nobody else did: two clients, two calls at the gateway.
    assert [call.service for call in mesh.served].count("gateway") == 2
    assert str(tmp_path) not in str(error)


async def test_no_mesh_at_all(tmp_path: Path) -> None:
    """Where nobody answers, the client says what to do."""
    with pytest.raises(shieldmesh.UnavailableError, match="shieldmesh up") as caught:
        await shieldmesh.connect(f"unix:{tmp_path / 'none.sock'}").chat(PROMPT, timeout=TIMEOUT).result()
    assert path(caught.value) == [("gateway", CHAT)]


@pytest.mark.parametrize(("messages", "reason"), [([], "FIELD_INVALID"), (["x" * 101], "TEXT_TOO_LONG")])
async def test_a_refusal(tmp_path: Path, messages: list[str], reason: str) -> None:
    """A refused request is a path of the hops up to who refused it, with the field."""
    conversation = [shieldmesh.Message("user", text) for text in messages]
    with observed():
        async with running(tmp_path, profiles={"default": {"limits": {"input_characters": 100}}}) as mesh:
            with pytest.raises(shieldmesh.InvalidArgumentError) as caught:
                await mesh.client.chat(conversation, timeout=TIMEOUT).result()
    check(caught.value, reason, *ENTRY)
    assert caught.value.field == "messages"


@asynccontextmanager
async def plain_server(target: str, add: Callable[[grpc.aio.Server], None]) -> AsyncGenerator[None]:
    """A gRPC server without anything of this mesh around its calls."""
    server = grpc.aio.server()
    add(server)
    server.add_insecure_port(target)
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)


@asynccontextmanager
async def foreign_proxy(target: str, upstream: str) -> AsyncGenerator[None]:
    """A plain gRPC server at `target` that passes generations on to `upstream`, knowing nothing of this mesh."""
    async with grpc.aio.insecure_channel(upstream) as channel:
        call: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(f"/{GENERATE}")

        async def forward(requests: AsyncIterator[bytes], servicer: Any) -> AsyncGenerator[bytes]:
            metadata = [(key, value) for key, value in servicer.invocation_metadata() if not key.startswith("grpc-")]
            answers = call(requests, metadata=metadata, timeout=servicer.time_remaining())
            try:
                async for answer in answers:
                    yield answer
            except grpc.aio.AioRpcError as error:
                # As proxies do: status and trailing metadata go through as they are.
                await servicer.abort(error.code(), error.details() or "", tuple(error.trailing_metadata() or ()))
            finally:
                answers.cancel()

        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(forward)
        service = GENERATE.partition("/")[0]
        async with plain_server(target, lambda it: it.add_registered_method_handlers(service, {"Generate": handler})):
            yield


async def test_a_foreign_service_in_between(tmp_path: Path) -> None:
    """A proxy that knows nothing of paths leaves the path whole: of the services that know, each is in it once."""
    profiles = {"default": {"model_options": {"text": "one two", "fail_after": 1}}, "plain": {}}
    inner = f"unix:{tmp_path / 'inner.sock'}"
    with observed():
        async with running(tmp_path, profiles=profiles, without=["inference"]) as mesh:
            real = serving(mesh, "inference", inference(mesh.models), target=inner)
            async with real, foreign_proxy(mesh.target("inference"), inner):
                whole = await mesh.client.chat("all is well", profile="plain", timeout=TIMEOUT).result()
                error = await failing(mesh)
    assert whole.text == "all is well"
    check(error, "ENGINE_FAILED", *ENTRY, ("inference", GENERATE))


class ForeignInference(inference_pb2_grpc.InferenceServiceServicer):
    """A service that fails with words of its own."""

    async def Generate(  # noqa: N802  # the contract's name
        self, request_iterator: object, context: Any
    ) -> AsyncGenerator[inference_pb2.GenerateEvent]:
        del request_iterator
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{SECRET} at 10.0.0.7")
        yield inference_pb2.GenerateEvent()

    async def ListModels(  # noqa: N802  # the contract's name
        self, request: object, context: object
    ) -> inference_pb2.ListModelsResponse:
        del request, context
        return inference_pb2.ListModelsResponse()


async def test_a_foreign_service_that_fails(tmp_path: Path) -> None:
    """A service without hops of its own is named by who called it, its status kept and its words left out."""
    with observed():
        async with (
            running(tmp_path, without=["inference"]) as mesh,
            plain_server(
                mesh.target("inference"),
                partial(inference_pb2_grpc.add_InferenceServiceServicer_to_server, ForeignInference()),
            ),
        ):
            error = await failing(mesh)
    assert isinstance(error, shieldmesh.ResourceExhaustedError)
    check(error, "LIMIT_REACHED", *ENTRY, ("inference", GENERATE), absent=True)
    assert "10.0.0.7" not in str(error)


async def test_turns_that_fail_together(tmp_path: Path) -> None:
    """Paths of turns that fail at the same time never mix: the spans of each are those of its own trace."""
    profiles = {
        "default": {"model_options": {"text": "one two three", "fail_after": 2}, **OUTPUT_SHIELD},
    }
    with observed() as seen:
        async with running(tmp_path, profiles=profiles) as mesh:
            turns = [mesh.client.chat(PROMPT, session=f"s-{number}", timeout=TIMEOUT) for number in range(16)]
            ends = await asyncio.gather(*(_until_it_fails(turn) for turn in turns))
            await mesh.idle()
    traces = seen.spans.traces()
    begun: set[str] = set()
    for (started, *_), error in ends:
        assert isinstance(started, shieldmesh.Started)
        begun.add(started.trace_id)
        check(error, "ENGINE_FAILED", *ENTRY, ("inference", GENERATE))
        assert {traces[hop.span_id] for hop in error.hops} == {started.trace_id}
    assert len(begun) == len(turns)


async def _until_it_fails(turn: shieldmesh.Turn) -> tuple[list[shieldmesh.Event], MeshError]:
    events: list[shieldmesh.Event] = []
    try:
        async for event in turn:
            events.append(event)  # noqa: PERF401  # a comprehension would lose them with the error
    except MeshError as error:
        return events, error
    raise AssertionError("the turn did not fail")
