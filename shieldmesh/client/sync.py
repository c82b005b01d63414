"""The client for code without an event loop.

It stands on gRPC's own blocking calls instead of a loop in a hidden thread: those wake up for Ctrl-C, may be made from
any thread, are cancelled when they are dropped, and leave nothing that could hold up the interpreter's exit.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self, cast

import grpc

from shieldmesh import context, errors
from shieldmesh.channels import CHANNEL_OPTIONS
from shieldmesh.client import wire
from shieldmesh.client.events import Event, Result
from shieldmesh.client.reach import explain
from shieldmesh.client.request import DEFAULT_TIMEOUT, Call, Message, Sampling, build_call, wrap_call
from shieldmesh.client.url import DEFAULT_URL, parse_url
from shieldmesh.errors import Hop, MeshError
from shieldmesh.interceptors import CLIENT
from shieldmesh.interceptors.call import ClientCall
from shieldmesh.v1 import chat_pb2, chat_pb2_grpc

_METHOD = "shieldmesh.v1.ChatService/Chat"


def connect_sync(url: str = DEFAULT_URL) -> "SyncMesh":
    """A blocking client of the mesh at `url`, for any number of threads; see `shieldmesh.connect` for the forms.

        with shieldmesh.connect_sync() as mesh:
            for event in mesh.chat("Why is the sky blue?"):
                ...

    Raises:
        ValueError: `url` names no mesh.
    """
    return SyncMesh(parse_url(url))


class SyncMesh:
    """A mesh to talk to; see `connect_sync`.

    Attributes:
        target: Where it is, in gRPC's notation.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self._channel = grpc.insecure_channel(target, options=CHANNEL_OPTIONS)

    def chat(
        self,
        prompt: str | Sequence[Message],
        *,
        profile: str = "",
        session: str = "",
        sampling: Sampling | None = None,
        values: Mapping[str, str] | None = None,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> "SyncTurn":
        """One turn, which begins when its first event is asked for; arguments as for `Mesh.chat`.

        Raises:
            InvalidArgumentError: a value cannot be sent; `field` names it.
        """
        call = build_call(prompt, profile=profile, session=session, sampling=sampling, values=values, timeout=timeout)
        return SyncTurn(self._channel, self.target, call)

    def run(
        self, request: chat_pb2.ChatRequest, *, session: str = "", timeout: float | None = DEFAULT_TIMEOUT
    ) -> "SyncTurn":
        """One turn from a request of the contract itself; see `Mesh.run`.

        Raises:
            InvalidArgumentError: the session id or the timeout is none.
        """
        return SyncTurn(self._channel, self.target, wrap_call(request, session=session, timeout=timeout))

    def close(self) -> None:
        """Cancels the turns that still run, whichever thread reads them, and closes the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SyncTurn:
    """The events of one turn, to be read once with `for`, by one thread at a time.

    Reading to the end, an error, leaving `with turn:`, `close`, and dropping it (as `break` does) all end the call.
    """

    def __init__(self, channel: grpc.Channel, target: str, call: Call) -> None:
        self._events = _read(channel, target, call)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        return next(self._events)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def result(self) -> Result:
        """The whole turn, once it has ended.

        Raises:
            MeshError: the mesh could not do its job; the error's hops say where.
        """
        with self:
            return wire.collect(self)

    def text(self) -> str:
        """All released text, once the turn has ended.

        Raises:
            MeshError: see `result`.
        """
        return self.result().text

    def close(self) -> None:
        """Cancels the call if it still runs. For the thread that reads; others close the mesh."""
        self._events.close()


class _Stream(Protocol):
    """What gRPC returns for a call whose answer is a stream; it has no public name for it."""

    def __iter__(self) -> Iterator[chat_pb2.ChatEvent]: ...
    def cancel(self) -> object: ...
    def code(self) -> grpc.StatusCode: ...
    def add_callback(self, callback: Callable[[], None]) -> bool: ...


def _read(channel: grpc.Channel, target: str, call: Call) -> Generator[Event]:
    reader = wire.EventReader()
    try:
        stream = _open(channel, target, call)
        try:
            for message in stream:
                event = reader.read(message)
                if event is not None:
                    yield event
        finally:
            stream.cancel()
        reader.end()
    except grpc.RpcError as error:
        raise explain(_typed(error), target, reader.sequence) from None


def _open(channel: grpc.Channel, target: str, call: Call) -> _Stream:
    """Makes the call as `shieldmesh.channels` would: with the current context's identity, trace and deadline."""
    outgoing = ClientCall(_METHOD, target, [], call.timeout)
    with context.use(call.identity):
        for intercept in CLIENT:
            intercept(outgoing)
    stub = chat_pb2_grpc.ChatServiceStub(channel)
    stream = stub.Chat(call.request, timeout=outgoing.timeout, metadata=tuple(outgoing.metadata))

    def done() -> None:
        for tell in outgoing.when_done:
            tell(stream.code())

    if not stream.add_callback(done):
        done()
    return stream


def _typed(error: grpc.RpcError) -> MeshError:
    # A failed blocking call has the two methods that are read of the asynchronous one's error.
    typed = errors.from_rpc_error(cast("grpc.aio.AioRpcError", error))
    if not typed.hops:
        typed.seen_by(Hop("chat", _METHOD, reason=typed.reason))
    return typed
