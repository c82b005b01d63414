"""One generation at a service that ends the call while it is written to: what it said counts, not the failed write."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias, cast

import grpc
import pytest

from services.orchestrator import generation
from services.orchestrator.generation import generate
from shieldmesh import channels
from shieldmesh.errors import USAGE_KEY, InternalError
from shieldmesh.v1 import generation_pb2, inference_pb2, inference_pb2_grpc
from tests.services.orchestrator.serving import TIMEOUT, begun, ended, said

USAGE = generation_pb2.Usage(prompt_tokens=3, completion_tokens=2, total_tokens=5)
OPENING = inference_pb2.GenerateOpen(model="scripted")
Stub: TypeAlias = "inference_pb2_grpc.InferenceServiceAsyncStub"  # exists for type checkers alone


class Engine(inference_pb2_grpc.InferenceServiceServicer):
    """Says two words without being asked, and then is done, well or not.

    Attributes:
        go: Lets it say the second word.
    """

    def __init__(self, *, fails: bool) -> None:
        self.go = asyncio.Event()
        self._fails = fails

    async def Generate(  # noqa: N802  # the contract's name
        self, request_iterator: object, context: Any
    ) -> AsyncGenerator[inference_pb2.GenerateEvent]:
        del request_iterator
        yield begun()
        yield said("Hel")
        await self.go.wait()
        yield said("lo")
        if self._fails:
            await context.abort(grpc.StatusCode.INTERNAL, "", ((USAGE_KEY, USAGE.SerializeToString()),))
        yield ended(2)

    async def ListModels(  # noqa: N802  # the contract's name
        self, request: object, context: object
    ) -> inference_pb2.ListModelsResponse:
        raise NotImplementedError


class LateCall:
    """A call in which one kind of request comes too late: it is written until the server has ended the call."""

    def __init__(self, call: Any, late: str, failed: Callable[[], None]) -> None:
        self._call = call
        self._late = late
        self._failed = failed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def __aiter__(self) -> Any:
        return aiter(self._call)

    async def write(self, request: inference_pb2.GenerateRequest) -> None:
        """See `grpc.aio.StreamStreamCall.write`."""
        try:
            while request.HasField(cast("Any", self._late)):
                await self._call.write(request)
                await asyncio.sleep(0)
        except grpc.aio.AioRpcError:
            self._failed()
            raise
        await self._call.write(request)


@asynccontextmanager
async def serving(engine: Engine, directory: Path) -> AsyncGenerator[Stub]:
    """A stub of the engine."""
    server = grpc.aio.server()
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(engine, server)
    target = f"unix:{directory / 'inference'}.sock"
    server.add_insecure_port(target)
    await server.start()
    try:
        async with asyncio.timeout(TIMEOUT):
            yield inference_pb2_grpc.InferenceServiceStub(channels.get(target))
    finally:
        await channels.close()
        await server.stop(None)


async def test_an_engine_that_is_done_before_it_was_asked(tmp_path: Path) -> None:
    """An opening that could not be written to its end is no failure when the answer is whole."""
    engine = Engine(fails=False)
    engine.go.set()
    taken: list[inference_pb2.GenerateEvent] = []
    async with serving(engine, tmp_path) as stub:
        await generate(late(stub, "open"), OPENING, into(taken), let_go=lambda: None, asked=lambda: None)
    assert taken == [begun(), said("Hel"), said("lo"), ended(2)]


async def test_an_engine_that_fails_before_it_hears_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The account of a generation that failed just as it was cancelled is taken, and nobody waits for it in vain."""
    monkeypatch.setattr(generation, "STOP_SECONDS", TIMEOUT)  # a bound that is not reached
    engine = Engine(fails=True)
    taken: list[inference_pb2.GenerateEvent] = []
    busy, free = asyncio.Event(), asyncio.Event()

    async def take(event: inference_pb2.GenerateEvent) -> None:
        taken.append(event)
        if event == said("Hel"):
            # What comes after it, the end with it, waits unread until the write has failed.
            busy.set()
            await free.wait()

    async with serving(engine, tmp_path) as stub:
        work = asyncio.create_task(
            generate(late(stub, "stop", free.set), OPENING, take, let_go=engine.go.set, asked=lambda: None)
        )
        await busy.wait()
        work.cancel()
        await asyncio.wait([work])
    assert work.cancelled()
    told = inference_pb2.GenerateEvent(finished=inference_pb2.GenerateFinished(usage=USAGE))
    assert taken == [begun(), said("Hel"), said("lo"), told]


async def test_an_engine_that_fails_before_it_was_asked(tmp_path: Path) -> None:
    """The failure is the engine's, not the write's, and its account is taken."""
    engine = Engine(fails=True)
    engine.go.set()
    taken: list[inference_pb2.GenerateEvent] = []
    async with serving(engine, tmp_path) as stub:
        with pytest.raises(InternalError):
            await generate(late(stub, "open"), OPENING, into(taken), let_go=lambda: None, asked=lambda: None)
    assert [event.WhichOneof("event") for event in taken] == ["started", "delta", "delta", "finished"]
    assert taken[-1].finished.usage == USAGE


async def test_who_waits_for_the_asking_comes_behind_the_opening(tmp_path: Path) -> None:
    """They hear of it once, before any event; what they begin then goes out after the opening."""
    engine = Engine(fails=False)
    engine.go.set()
    seen: list[object] = []
    written: list[inference_pb2.GenerateRequest] = []
    tasks: list[asyncio.Task[None]] = []

    async def begin() -> None:
        seen.append([request.HasField("open") for request in written])

    def asked() -> None:
        seen.append("asked")
        tasks.append(asyncio.create_task(begin()))

    async with serving(engine, tmp_path) as stub:
        rpc = heard(stub, written)
        await generate(rpc, OPENING, into(cast("list[Any]", seen)), let_go=lambda: None, asked=asked)
    assert seen == ["asked", [True], begun(), said("Hel"), said("lo"), ended(2)]


@pytest.mark.parametrize("confirmed", [True, False])
async def test_credit_where_the_engine_keeps_a_window(tmp_path: Path, *, confirmed: bool) -> None:
    """What was taken is said once for half a window, and never to an engine that confirmed none."""
    window = inference_pb2.GenerateWindow(tokens=10)
    word = said("word")

    class Windowed(Engine):
        async def Generate(  # noqa: N802  # the contract's name
            self, request_iterator: Any, context: Any
        ) -> AsyncGenerator[inference_pb2.GenerateEvent]:
            del context
            requests = aiter(request_iterator)
            await anext(requests)
            started = inference_pb2.GenerateStarted(window=window if confirmed else None)
            yield inference_pb2.GenerateEvent(started=started)
            for number in range(1, 41):
                yield word
                if confirmed and number % 5 == 0:
                    await anext(requests)
            yield ended(40)

    taken: list[inference_pb2.GenerateEvent] = []
    written: list[inference_pb2.GenerateRequest] = []
    opening = inference_pb2.GenerateOpen(model="scripted", window=window)
    async with serving(Windowed(fails=False), tmp_path) as stub:
        await generate(heard(stub, written), opening, into(taken), let_go=lambda: None, asked=lambda: None)
    assert sum(event.delta.token_count for event in taken) == 40
    assert written[0].open.window == window
    assert [request.credit.tokens for request in written[1:]] == (list(range(5, 41, 5)) if confirmed else [])


def into(taken: list[inference_pb2.GenerateEvent]) -> Callable[[inference_pb2.GenerateEvent], Awaitable[None]]:
    """Takes events as they come."""

    async def take(event: inference_pb2.GenerateEvent) -> None:
        taken.append(event)

    return take


def late(stub: Stub, kind: str, failed: Callable[[], None] = lambda: None) -> Any:
    """The RPC, in whose calls requests of this kind come too late."""

    def call(timeout: float | None = None) -> LateCall:
        return LateCall(stub.Generate(timeout=timeout), kind, failed)

    return call


class HeardCall(LateCall):
    """A call of which is noted what is written."""

    def __init__(self, call: Any, written: list[inference_pb2.GenerateRequest]) -> None:
        super().__init__(call, "", lambda: None)
        self._written = written

    async def write(self, request: inference_pb2.GenerateRequest) -> None:
        """See `grpc.aio.StreamStreamCall.write`."""
        self._written.append(request)
        await self._call.write(request)


def heard(stub: Stub, written: list[inference_pb2.GenerateRequest]) -> Any:
    """The RPC, of whose calls is noted what is written."""

    def call(timeout: float | None = None) -> HeardCall:
        return HeardCall(stub.Generate(timeout=timeout), written)

    return call
