"""The client for code without an event loop.

It stands on gRPC's own blocking calls instead of a loop in a hidden thread: those wake up for Ctrl-C, may be made from
any thread, are cancelled when they are dropped, and leave nothing that could hold up the interpreter's exit.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypedDict, TypeVar, cast

import grpc

from shieldmesh import channels, context, errors
from shieldmesh.client import wire
from shieldmesh.client.conversation import Message, Sampling, Tool
from shieldmesh.client.events import Event, Result, TurnRecord
from shieldmesh.client.reach import explain
from shieldmesh.client.request import (
    DEFAULT_TIMEOUT,
    AnyCall,
    Call,
    Disconnect,
    after_of,
    build_call,
    resume_call,
    wrap_call,
)
from shieldmesh.client.url import DEFAULT_URL, parse_url
from shieldmesh.errors import Hop, MeshError
from shieldmesh.interceptors import CLIENT
from shieldmesh.interceptors.call import ClientCall
from shieldmesh.v1 import chat_pb2, chat_pb2_grpc

_SERVICE: Final = "shieldmesh.v1.ChatService"

Q = TypeVar("Q")
A = TypeVar("A")


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
        self._channel = channels.blocking(target)

    def chat(
        self,
        prompt: str | Sequence[Message],
        *,
        profile: str = "",
        session: str = "",
        tools: Sequence[Tool] = (),
        sampling: Sampling | None = None,
        disconnect: Disconnect | str | None = None,
        idempotency_key: str = "",
        variables: Mapping[str, str] | None = None,
        values: Mapping[str, str] | None = None,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> "SyncTurn":
        """One turn, which begins when its first event is asked for; arguments as for `Mesh.chat`.

        Raises:
            InvalidArgumentError: a value cannot be sent; `field` names it.
        """
        call = build_call(
            prompt,
            profile=profile,
            session=session,
            tools=tools,
            sampling=sampling,
            disconnect=disconnect,
            idempotency_key=idempotency_key,
            variables=variables,
            values=values,
            timeout=timeout,
        )
        return SyncTurn(self._channel, self.target, call)

    def run(
        self, request: chat_pb2.ChatRequest, *, session: str = "", timeout: float | None = DEFAULT_TIMEOUT
    ) -> "SyncTurn":
        """One turn from a request of the contract itself; see `Mesh.run`.

        Raises:
            InvalidArgumentError: the session id or the timeout is none.
        """
        return SyncTurn(self._channel, self.target, wrap_call(request, session=session, timeout=timeout))

    def resume(
        self, turn_id: str, *, after: int = 0, session: str = "", timeout: float | None = DEFAULT_TIMEOUT
    ) -> "SyncTurn":
        """The rest of a turn that began in another call; see `Mesh.resume`.

        Raises:
            InvalidArgumentError: a value cannot be sent; `field` names it.
        """
        call = resume_call(turn_id, after=after, session=session, timeout=timeout)
        return SyncTurn(self._channel, self.target, call)

    def get_turn(self, turn_id: str, *, session: str = "", timeout: float | None = DEFAULT_TIMEOUT) -> TurnRecord:
        """What there is of a turn at this moment; see `Mesh.get_turn`.

        Raises:
            MeshError: as of `Mesh.get_turn`.
        """
        call = wrap_call(chat_pb2.GetTurnRequest(turn_id=turn_id), session=session, timeout=timeout)
        return wire.record(self._ask("GetTurn", lambda stub: stub.GetTurn, call))

    def cancel_turn(self, turn_id: str, *, session: str = "", timeout: float | None = DEFAULT_TIMEOUT) -> None:
        """Ends a turn, whoever reads it; see `Mesh.cancel_turn`.

        Raises:
            MeshError: as of `Mesh.cancel_turn`.
        """
        call = wrap_call(chat_pb2.CancelTurnRequest(turn_id=turn_id), session=session, timeout=timeout)
        self._ask("CancelTurn", lambda stub: stub.CancelTurn, call)

    def close(self) -> None:
        """Cancels the turns that still run, whichever thread reads them, and closes the connection."""
        self._channel.close()

    def _ask(
        self,
        name: str,
        method: "Callable[[chat_pb2_grpc.ChatServiceStub], grpc.UnaryUnaryMultiCallable[Q, A]]",
        call: Call[Q],
    ) -> A:
        outgoing = _outgoing(name, self.target, call)
        rpc = method(chat_pb2_grpc.ChatServiceStub(self._channel))
        code = grpc.StatusCode.OK
        try:
            return rpc(call.request, timeout=outgoing.timeout, metadata=tuple(outgoing.metadata))
        except grpc.RpcError as error:
            code = cast("grpc.aio.AioRpcError", error).code()  # errors of both kinds of calls have one
            raise explain(_typed(error, name), self.target, 0) from None
        finally:
            _tell(outgoing, code)

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

    def __init__(self, channel: grpc.Channel, target: str, call: AnyCall) -> None:
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


def _read(channel: grpc.Channel, target: str, call: AnyCall) -> Generator[Event]:
    reader = wire.EventReader(after_of(call.request))
    name = "Resume" if isinstance(call.request, chat_pb2.ResumeRequest) else "Chat"
    try:
        stream = _open(channel, target, call, name)
        try:
            for message in stream:
                event = reader.read(message)
                if event is not None:
                    yield event
        finally:
            stream.cancel()
        reader.end()
    except grpc.RpcError as error:
        raise explain(_typed(error, name), target, reader.sequence) from None


def _open(channel: grpc.Channel, target: str, call: AnyCall, name: str) -> _Stream:
    outgoing = _outgoing(name, target, call)
    stub = chat_pb2_grpc.ChatServiceStub(channel)
    options: _Options = {"timeout": outgoing.timeout, "metadata": tuple(outgoing.metadata)}
    if isinstance(call.request, chat_pb2.ResumeRequest):
        stream: _Stream = stub.Resume(call.request, **options)
    else:
        stream = stub.Chat(call.request, **options)
    if not stream.add_callback(lambda: _tell(outgoing, stream.code())):
        _tell(outgoing, stream.code())
    return stream


class _Options(TypedDict):
    timeout: float | None
    metadata: tuple[tuple[str, str], ...]


def _outgoing(name: str, target: str, call: Call[Any]) -> ClientCall:  # Any: whatever is asked
    """A call as `shieldmesh.channels` would make it: with the current context's identity, trace and deadline."""
    outgoing = ClientCall(f"{_SERVICE}/{name}", target, [], call.timeout)
    with context.use(call.identity):
        for intercept in CLIENT:
            intercept(outgoing)
    return outgoing


def _tell(outgoing: ClientCall, code: grpc.StatusCode) -> None:
    for tell in outgoing.when_done:
        tell(code)


def _typed(error: grpc.RpcError, name: str) -> MeshError:
    # A failed blocking call has the two methods that are read of the asynchronous one's error.
    typed = errors.from_rpc_error(cast("grpc.aio.AioRpcError", error))
    if not typed.hops:
        typed.seen_by(Hop("chat", f"{_SERVICE}/{name}", reason=typed.reason))
    return typed
