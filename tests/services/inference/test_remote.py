"""A model of another InferenceService: its events, its account and its errors come through whole."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.admission import Admission
from services.inference.backend import (
    Backend,
    Finish,
    FinishReason,
    GenerationRequest,
    Message,
    Output,
    Sampling,
    Step,
    Tool,
    ToolCall,
    ToolFragment,
    Usage,
)
from services.inference.registry import Registry, ServedModel
from services.inference.remote.backend import RemoteBackend
from services.inference.remote.options import RemoteOptions
from services.inference.remote.translation import to_opening
from services.inference.replay import ReplayBackend, ReplayOptions
from services.inference.servicer import InferenceServicer
from services.inference.translation import from_request
from shieldmesh import channels, context
from shieldmesh.context import RequestContext
from shieldmesh.errors import (
    USAGE_KEY,
    FailedPreconditionError,
    InternalError,
    MeshError,
    NotFoundError,
    UnavailableError,
)
from shieldmesh.interceptors.client import at_once
from shieldmesh.v1 import generation_pb2, inference_pb2_grpc
from shieldmesh.window import TOKENS
from tests.promises.observing import observed

from .serving import TIMEOUT, Stub, ask, generating, serving

PROMPT = (Message("user", "hi"),)
COST = Usage(prompt=11, cached=5, completion=4)
STEPS = (
    Output(reasoning="hm", token_count=1),
    Output(text="one 🦜", token_count=2),
    Output(choice=1, text="two"),
    Output(tool=ToolFragment(0, "a", "f", "{")),
    Output(tool=ToolFragment(0, arguments="}"), token_count=1),
)


class Played:
    """A backend and its only generation: these steps, this cost, and perhaps an error at the end."""

    context_window = 0
    generated_tokens = 0

    def __init__(self, steps: Sequence[Step], error: MeshError | None = None) -> None:
        self.usage = COST
        self.seen: RequestContext | None = None
        self._steps = steps
        self._error = error

    def generate(self, request: GenerationRequest) -> "Played":
        assert request.messages == PROMPT
        return self

    async def batches(self) -> AsyncGenerator[Sequence[Step]]:
        self.seen = context.current()
        for step in self._steps:
            yield [step]
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        pass

    async def close(self) -> None:
        pass


@settings(max_examples=40)
@given(
    messages=st.lists(
        st.one_of(
            st.builds(Message, st.sampled_from(["system", "user"]), st.text(max_size=5)),
            st.builds(Message, st.just("assistant"), st.text(max_size=5), st.tuples(st.builds(ToolCall))),
            st.builds(Message, st.just("tool"), st.text(max_size=5), tool_call_id=st.text(max_size=3)),
        ),
        max_size=3,
    ),
    sampling=st.builds(
        Sampling,
        temperature=st.none() | st.floats(0, 2),
        top_k=st.none() | st.integers(0, 9),
        max_tokens=st.none() | st.integers(1, 9),
        seed=st.none() | st.integers(0, 2**64 - 1),
        stop=st.lists(st.text(min_size=1), max_size=2).map(tuple),
    ),
    tools=st.lists(st.builds(Tool), max_size=2),
    json_schema=st.none() | st.just("{}"),
)
def test_requests_are_passed_on_whole(
    messages: list[Message], sampling: Sampling, tools: list[Tool], json_schema: str | None
) -> None:
    """What the other service reads is what this one was asked, options too."""
    options = {"cut": "random", "pace": 2.5, "pieces": ["a", "b"], "deep": {"x": None, "y": True}}
    request = GenerationRequest(tuple(messages), sampling, tuple(tools), json_schema, options)
    assert from_request(to_opening("m", request)) == request


@pytest.mark.parametrize("reason", [each for each in FinishReason if each is not FinishReason.CANCELLED])
async def test_steps_and_usage_come_through_whole(tmp_path: Path, reason: FinishReason) -> None:
    """Reasoning, text, other choices and tool calls in their order, the reason, and the cost as the engine told it."""
    async with served(Played((*STEPS, Finish(reason))), tmp_path) as url:
        generation = remote(url).generate(GenerationRequest(PROMPT))
        steps = [step async for batch in generation.batches() for step in batch]
        await channels.close()
    assert steps == [*STEPS, Finish(reason)]
    assert generation.usage == COST


async def test_a_failure_brings_its_path_its_cost_and_what_came_before(tmp_path: Path) -> None:
    """One typed error with one hop for each service, and the usage in the trailing metadata at each of them."""
    broken = InternalError("the engine failed", reason="ENGINE_FAILED", retry_after=3)
    tokens: list[int] = []
    costs: list[bytes] = []

    async def read(stub: Stub) -> None:
        async with generating(stub, ask("m", "hi")) as call:
            call.add_done_callback(lambda done: costs.extend(cost(done)))
            async for event in call:
                tokens.append(event.delta.token_count)  # noqa: PERF401  # a comprehension loses all when it raises

    async with chained(Played(STEPS, broken), tmp_path) as stub:
        with pytest.raises(InternalError) as caught:
            await read(stub)
    assert (caught.value.reason, caught.value.message, caught.value.retry_after) == (
        "ENGINE_FAILED",
        "the engine failed",
        3,
    )
    assert [(hop.service, hop.instance) for hop in caught.value.hops] == [("inference", "test")] * 2
    assert sum(tokens) == 4
    assert [generation_pb2.Usage.FromString(each).total_tokens for each in costs] == [COST.total]


async def test_identity_trace_and_deadline_travel_on(tmp_path: Path) -> None:
    """The other service works for the same session, turn and tenant, in the same trace, with less time."""
    ours = RequestContext("session-1", "turn-1", "tenant-1", "profile-1", "version-1")
    played = Played((Finish(FinishReason.STOP),))
    with observed() as seen, context.use(ours):
        async with chained(played, tmp_path) as stub, generating(stub, ask("m", "hi"), seconds=TIMEOUT) as call:
            assert [event async for event in call]
    assert played.seen is not None
    # It also knows where the request has been.
    assert replace(played.seen, deadline=None, values=ours.values) == ours
    assert played.seen.deadline is not None
    assert played.seen.deadline < time.monotonic() + TIMEOUT
    assert len(set(seen.spans.traces().values())) == 1


async def test_an_unknown_model_and_a_service_that_is_not_there(tmp_path: Path) -> None:
    """Both are typed errors that say where they happened."""
    async with served(Played(()), tmp_path) as url:
        with pytest.raises(NotFoundError) as unknown:
            await drain(RemoteBackend("m", RemoteOptions(url=url, model="other")))
        await channels.close()
    assert (unknown.value.reason, len(unknown.value.hops)) == ("MODEL_NOT_FOUND", 1)
    with pytest.raises(UnavailableError) as gone:
        await drain(remote(url))
    assert [hop.service for hop in gone.value.hops] == ["inference"]
    await channels.close()


async def test_a_ring_of_services_ends_at_the_model_that_is_met_again(tmp_path: Path) -> None:
    """With one place at each, two services that point at each other would wait for each other for ever."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    sockets = [tmp_path / name / "inference.sock" for name in ("one", "two")]
    first, second = (
        Registry({"m": ServedModel("m", "grpc", remote(f"unix:{other}"), Admission("m", max_running=1, max_waiting=1))})
        for other in reversed(sockets)
    )
    async with serving(first, tmp_path / "one") as stub, serving(second, tmp_path / "two"):
        with pytest.raises(FailedPreconditionError) as caught:
            await read(stub)
        await channels.close()
    assert caught.value.reason == "MODEL_RING"
    assert [hop.service for hop in caught.value.hops] == ["inference"] * 3


async def test_stop_brings_the_exact_account_of_an_engine_far_away(tmp_path: Path) -> None:
    """After stop the batches end with the usage of the other service, prompt included."""
    replay = ReplayBackend(ReplayOptions(text="and so on " * 1000, pace=100))
    async with served(replay, tmp_path) as url:
        generation = remote(url).generate(GenerationRequest(PROMPT))
        steps: list[Step] = []
        async for batch in generation.batches():
            steps += batch
            generation.stop()
        await channels.close()
    assert not any(isinstance(step, Finish) for step in steps)
    assert generation.usage == Usage(prompt=1, completion=replay.generated_tokens)


async def test_an_answer_of_many_windows_comes_whole(tmp_path: Path) -> None:
    """The service in between says what it has taken, so the engine never waits for ever."""
    backend = ReplayBackend(ReplayOptions(pieces=("four",) * (3 * TOKENS)))
    async with chained(backend, tmp_path) as stub, generating(stub, ask("m")) as call:
        events = [event async for event in call]
    assert sum(event.delta.token_count for event in events) == 3 * TOKENS


async def test_a_service_behind_tls_is_reached_with_its_authority(tmp_path: Path) -> None:
    """Grpcs with `ca` trusts that authority, and no other."""
    ours, other = trustme.CA(), trustme.CA()
    pem = tmp_path / "ca.pem"
    certificate = ours.issue_cert("localhost")
    chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    server = grpc.aio.server()
    servicer = InferenceServicer(registry(Played((Finish(FinishReason.STOP),))), max_characters=100)
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(servicer, server)
    credentials = grpc.ssl_server_credentials([(certificate.private_key_pem.bytes(), chain)])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        for authority in (ours, other):
            authority.cert_pem.write_to_path(str(pem))
            backend = RemoteBackend("m", RemoteOptions(url=f"grpcs://localhost:{port}", model="m", ca=pem))
            if authority is ours:
                assert await drain(backend) == [Finish(FinishReason.STOP)]
            else:
                with pytest.raises(UnavailableError):
                    await drain(backend)
    finally:
        await channels.close()
        await server.stop(None)


@asynccontextmanager
async def served(backend: Backend, directory: Path) -> AsyncGenerator[str]:
    """The URL of a service with this model."""
    directory = directory / "inner"
    directory.mkdir()
    async with serving(registry(backend), directory):
        yield f"unix:{directory / 'inference.sock'}"


@asynccontextmanager
async def chained(backend: Backend, directory: Path) -> AsyncGenerator[Stub]:
    """A stub of a service whose model is that of another service."""
    async with served(backend, directory) as url, serving(registry(remote(url)), directory) as stub:
        yield stub


async def read(stub: Stub) -> None:
    """All that the model says to somebody."""
    async with generating(stub, ask("m", "hi")) as call:
        async for _ in call:
            pass


def cost(call: grpc.aio.Call) -> Iterator[bytes]:
    """What a call that is done says that it cost."""
    for key, value in at_once(call.trailing_metadata()) or ():
        if key == USAGE_KEY and isinstance(value, bytes):
            yield value


def remote(url: str) -> RemoteBackend:
    return RemoteBackend("m", RemoteOptions(url=url, model="m"))


def registry(backend: Backend) -> Registry:
    return Registry({"m": ServedModel("m", "any", backend, Admission("m", max_running=2, max_waiting=0))})


async def drain(backend: RemoteBackend) -> list[Step]:
    """All that the model says."""
    async with asyncio.timeout(TIMEOUT):
        return [step async for batch in backend.generate(GenerationRequest(PROMPT)).batches() for step in batch]
