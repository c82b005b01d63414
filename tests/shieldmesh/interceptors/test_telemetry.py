"""What spans of calls tell, beside what those of opentelemetry-instrumentation-grpc tell.

Each case runs with ours and with theirs. Where theirs fail today the case says so, strictly: a version of theirs that
does better makes the test fail, and docs/adr/0002 can be thought over again.
"""

import asyncio
import importlib
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

from shieldmesh import channels, telemetry
from shieldmesh.interceptors import INNER
from shieldmesh.interceptors.call import ServerIdentity
from shieldmesh.interceptors.client import WRITE_FAILED, ContextCallable
from shieldmesh.interceptors.server import MeshInterceptor
from shieldmesh.telemetry import Name
from shieldmesh.v1 import chat_pb2, chat_pb2_grpc, shield_pb2, shield_pb2_grpc
from tests.promises.observing import SpanLedger
from tests.shieldmesh.serving import OnlyChat

TIMEOUT: Final = 60.0
"""Seconds until a test gives up waiting."""

INSTRUMENTATION: Final[Any] = importlib.import_module("opentelemetry.instrumentation.grpc")
"""What it exports has no types."""
OURS: Final = "ours"
THEIRS: Final = pytest.param("theirs", marks=pytest.mark.xfail(strict=True, reason="see docs/adr/0002"))
BOTH: Final = pytest.mark.parametrize("whose", [OURS, "theirs"])
ONLY_OURS: Final = pytest.mark.parametrize("whose", [OURS, THEIRS])


# What a server tells


@ONLY_OURS
async def test_a_handler_that_raises_has_failed(tmp_path: Path, whose: str) -> None:
    """The span is an error with a status, and holds nothing of the exception's text."""

    async def broken() -> None:
        raise ValueError("my secret")

    with recording() as spans:
        async with serving(whose, Service(broken), tmp_path, spans) as target, plain(target) as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await read_all(channel)
    (span,) = spans.ended
    assert span.status.status_code is trace.StatusCode.ERROR
    assert status_of(span) in {"INTERNAL", "UNKNOWN"}
    assert "secret" not in span.to_json()


@ONLY_OURS
async def test_a_stream_that_its_caller_cancels_is_cancelled(tmp_path: Path, whose: str) -> None:
    """The server's span says CANCELLED, and that is no failure of the server."""
    service = Service(asyncio.Event().wait)
    with recording() as spans:
        async with serving(whose, service, tmp_path, spans) as target, plain(target) as channel:
            call: Any = chat_pb2_grpc.ChatServiceStub(channel).Chat(chat_pb2.ChatRequest(), timeout=TIMEOUT)
            await call.read()
            call.cancel()
            await ended(spans, 1)
    (span,) = spans.ended
    assert status_of(span) == "CANCELLED"
    assert span.status.status_code is trace.StatusCode.UNSET


@BOTH
async def test_messages_of_a_stream_are_no_events(tmp_path: Path, whose: str) -> None:
    """However many messages a stream has, its spans have no event for each."""
    with recording() as spans:
        async with (
            serving(whose, Service(messages=50), tmp_path, spans) as target,
            calling(whose, target, spans) as channel,
        ):
            await read_all(channel)
    assert len(spans.ended) == 2
    assert not [span for span in spans.ended if span.events]
    if whose == OURS:
        assert [dict(span.attributes or {}).get(Name.MESSAGES_SENT) for span in spans.ended if is_server(span)] == [50]


@pytest.mark.xfail(strict=True, reason="their servicer context cannot write, see docs/adr/0002")
async def test_theirs_can_stand_around_ours(tmp_path: Path) -> None:
    """Our server writes a stream's messages itself, with `context.write`, and so do handlers of others."""
    with recording() as spans:
        around = [server_interceptor(spans), mesh_interceptor()]
        async with (
            started(grpc.aio.server(interceptors=around), Service(), tmp_path) as target,
            plain(target) as channel,
        ):
            assert await read_all(channel) == 1


# What a client tells


@ONLY_OURS
async def test_cancelling_a_unary_call_reaches_the_server(tmp_path: Path, whose: str) -> None:
    """The handler is cancelled, and the client's span ends, as cancelled."""
    service = Service(asyncio.Event().wait)
    with recording() as spans:
        async with serving(OURS, service, tmp_path, spans) as target, calling(whose, target, spans) as channel:
            stub = shield_pb2_grpc.ShieldServiceStub(channel)
            call: Any = stub.Inspect(shield_pb2.InspectRequest(), timeout=TIMEOUT)
            waiting = asyncio.ensure_future(call)
            await asyncio.wait_for(service.entered.wait(), TIMEOUT)
            waiting.cancel()
            await ended(spans, 2)
    assert {status_of(span) for span in spans.ended} == {"CANCELLED"}
    assert service.left.is_set()


@ONLY_OURS
async def test_a_stream_that_is_left_ends_its_span(tmp_path: Path, whose: str) -> None:
    """A reader that goes away in the middle and cancels the call loses no span."""
    with recording() as spans:
        async with (
            serving(OURS, Service(asyncio.Event().wait), tmp_path, spans) as target,
            calling(whose, target, spans) as channel,
        ):
            call: Any = chat_pb2_grpc.ChatServiceStub(channel).Chat(chat_pb2.ChatRequest(), timeout=TIMEOUT)
            async for _ in call:
                break
            call.cancel()
            await ended(spans, 2)
    assert {status_of(span) for span in spans.ended} == {"CANCELLED"}


async def test_a_call_that_cannot_be_made_ends_its_span(tmp_path: Path) -> None:
    """A call on a closed channel raises, and its span is over."""
    with recording() as spans:
        channel = channels.get(f"unix:{tmp_path / 'nobody.sock'}")
        await channels.close()
        stub: Any = chat_pb2_grpc.ChatServiceStub(channel)
        with pytest.raises(grpc.aio.UsageError):
            stub.Chat(chat_pb2.ChatRequest(), timeout=TIMEOUT)
    assert not spans.open
    assert [status_of(span) for span in spans.ended] == ["UNKNOWN"]


@pytest.mark.parametrize("said", [grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE])
async def test_a_write_that_fails_is_not_how_a_call_ended(said: grpc.StatusCode) -> None:
    """When a service ends a call that is written to, the span has the status that the service sent."""
    call = EndedWhileWritten()
    with recording() as spans:
        ContextCallable(lambda *_, **__: call, "/service/Method", "unix:it")(timeout=TIMEOUT)
        call.tell(call)
        await asyncio.sleep(0)
        assert spans.open
        call.ending = said, ""
        await ended(spans, 1)
    (span,) = spans.ended
    assert status_of(span) == said.name


async def test_a_call_whose_status_never_comes_ends_its_span() -> None:
    """After a failed write that nothing follows the span ends all the same, as a failure."""
    call = EndedWhileWritten()
    with recording() as spans:
        ContextCallable(lambda *_, **__: call, "/service/Method", "unix:it")(timeout=TIMEOUT)
        call.tell(call)
        await ended(spans, 1)
    assert [status_of(span) for span in spans.ended] == ["INTERNAL"]


@pytest.mark.parametrize(
    ("target", "address", "port"),
    [
        ("127.0.0.1:1", "127.0.0.1", 1),
        ("dns:///localhost:1", "localhost", 1),
        ("unix:{}/nobody.sock", "{}/nobody.sock", None),
    ],
)
async def test_a_client_says_whom_it_called(tmp_path: Path, target: str, address: str, port: int | None) -> None:
    """The client's span has the server's address, and fails with the status when nobody answers."""
    with recording() as spans:
        stub: Any = chat_pb2_grpc.ChatServiceStub(channels.get(target.format(tmp_path)))
        call = stub.Chat(chat_pb2.ChatRequest(), timeout=0.2)
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await call.read()
        await channels.close()
    (span,) = spans.ended
    said = dict(span.attributes or {})
    assert (said[Name.SERVER_ADDRESS], said.get(Name.SERVER_PORT)) == (address.format(tmp_path), port)
    assert said[Name.ERROR_TYPE] == failure.value.code().name
    assert span.status.status_code is trace.StatusCode.ERROR


async def test_an_application_that_instruments_grpc_sees_each_call_once(tmp_path: Path) -> None:
    """Where theirs are in every channel, calls of the mesh have one client span, ours, and the server is its child."""
    with recording() as spans, instrumented(spans):
        async with (
            serving(OURS, Service(), tmp_path, spans) as target,
            calling(OURS, target, spans) as channel,
        ):
            await read_all(channel)
    server, client = sorted(spans.ended, key=is_server, reverse=True)
    assert server.parent
    assert client.context
    assert server.parent.span_id == client.context.span_id
    assert [span.kind for span in (server, client)] == [trace.SpanKind.SERVER, trace.SpanKind.CLIENT]


# Arrangements


@contextmanager
def instrumented(spans: "Spans") -> Generator[None]:
    """Puts their interceptors into every channel made inside the block."""
    theirs = INSTRUMENTATION.GrpcAioInstrumentorClient()
    theirs.instrument(tracer_provider=spans.provider)
    try:
        yield
    finally:
        theirs.uninstrument()


class Service(OnlyChat, shield_pb2_grpc.ShieldServiceServicer):
    """Streams some messages, then does `work`, which may fail or never end; unary calls do it at once."""

    def __init__(self, work: Callable[[], Any] | None = None, messages: int = 1) -> None:
        self.entered, self.left = asyncio.Event(), asyncio.Event()
        self._work = work
        self._messages = messages

    async def Chat(  # noqa: N802  # the contract's name
        self, request: chat_pb2.ChatRequest, context: object
    ) -> AsyncGenerator[chat_pb2.ChatEvent]:
        del request, context
        for number in range(self._messages):
            yield chat_pb2.ChatEvent(sequence=number + 1)
        await self._do()

    async def Inspect(  # noqa: N802  # the contract's name
        self, request: shield_pb2.InspectRequest, context: object
    ) -> shield_pb2.InspectResponse:
        del request, context
        await self._do()
        return shield_pb2.InspectResponse()

    def InspectStream(self, request_iterator: object, context: object) -> Any:  # noqa: N802  # the contract's name
        raise NotImplementedError

    def ListShields(self, request: object, context: object) -> Any:  # noqa: N802  # the contract's name
        raise NotImplementedError

    async def _do(self) -> None:
        self.entered.set()
        try:
            if self._work is not None:
                await self._work()
        finally:
            self.left.set()


class EndedWhileWritten:
    """A call of grpc.aio after a write that failed; the status of the server comes into it later, without a word."""

    def __init__(self) -> None:
        self.ending: tuple[grpc.StatusCode, str] = (grpc.StatusCode.INTERNAL, WRITE_FAILED)
        self.tell: Callable[[EndedWhileWritten], object] = lambda _: None

    def add_done_callback(self, tell: "Callable[[EndedWhileWritten], object]") -> None:
        self.tell = tell

    async def code(self) -> grpc.StatusCode:
        return self.ending[0]

    async def details(self) -> str:
        return self.ending[1]


@contextmanager
def recording() -> Generator["Spans"]:
    provider = TracerProvider(shutdown_on_exit=False)
    spans = Spans(provider)
    provider.add_span_processor(spans)
    with telemetry.recording(provider, MeterProvider(shutdown_on_exit=False)):
        yield spans


class Spans(SpanLedger):
    """The spans, and the provider for those who want to be told."""

    def __init__(self, provider: TracerProvider) -> None:
        super().__init__()
        self.provider = provider


def mesh_interceptor() -> MeshInterceptor:
    return MeshInterceptor(ServerIdentity("service", "service-1", TIMEOUT), INNER)


def server_interceptor(spans: Spans) -> grpc.aio.ServerInterceptor:
    interceptor: grpc.aio.ServerInterceptor = INSTRUMENTATION.aio_server_interceptor(tracer_provider=spans.provider)
    return interceptor


@asynccontextmanager
async def serving(whose: str, service: Service, directory: Path, spans: Spans) -> AsyncGenerator[str]:
    """The target of a server with our interceptors or theirs."""
    interceptor = mesh_interceptor() if whose == OURS else server_interceptor(spans)
    async with started(grpc.aio.server(interceptors=[interceptor]), service, directory) as target:
        yield target


@asynccontextmanager
async def started(server: grpc.aio.Server, service: Service, directory: Path) -> AsyncGenerator[str]:
    chat_pb2_grpc.add_ChatServiceServicer_to_server(service, server)
    shield_pb2_grpc.add_ShieldServiceServicer_to_server(service, server)
    target = f"unix:{directory / 'service.sock'}"
    server.add_insecure_port(target)
    await server.start()
    try:
        yield target
    finally:
        await server.stop(None)


@asynccontextmanager
async def calling(whose: str, target: str, spans: Spans) -> AsyncGenerator[grpc.aio.Channel]:
    """A channel with our client side or theirs."""
    if whose == OURS:
        yield channels.get(target)
        await channels.close()
        return
    interceptors = INSTRUMENTATION.aio_client_interceptors(tracer_provider=spans.provider)
    async with grpc.aio.insecure_channel(target, interceptors=interceptors) as channel:
        yield channel


def plain(target: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(target)


async def read_all(channel: grpc.aio.Channel) -> int:
    """How many messages came."""
    stub: Any = chat_pb2_grpc.ChatServiceStub(channel)
    return len([event async for event in stub.Chat(chat_pb2.ChatRequest(), timeout=TIMEOUT)])


async def ended(spans: Spans, count: int) -> None:
    """Returns when so many spans have ended, or when it is clear that they will not."""
    for _ in range(200):
        if len(spans.ended) == count:
            return
        await asyncio.sleep(0.005)
    pytest.fail(f"{len(spans.ended)} of {count} spans have ended")


def is_server(span: ReadableSpan) -> bool:
    return span.kind is trace.SpanKind.SERVER


def status_of(span: ReadableSpan) -> object:
    """The name of the status, which theirs give as a number under an older name."""
    said = dict(span.attributes or {})
    number = said.get("rpc.grpc.status_code")
    return said.get(Name.RPC_STATUS) or next((code.name for code in grpc.StatusCode if code.value[0] == number), None)
