"""A blocking connection to a mesh: calls with the current context's identity, trace and deadline, and typed errors."""

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol, TypedDict, TypeVar, cast

import grpc

from shieldmesh import channels, context, errors
from shieldmesh.client.reach import explain
from shieldmesh.client.request import AnyCall, Call
from shieldmesh.errors import CancelledCallError, Hop, MeshError
from shieldmesh.interceptors import CLIENT
from shieldmesh.interceptors.call import ClientCall
from shieldmesh.v1 import chat_pb2, chat_pb2_grpc

_PACKAGE: Final = "shieldmesh.v1"

Q = TypeVar("Q")
A = TypeVar("A")


class Line:
    """Calls a mesh, from any thread.

    Attributes:
        target: Where it is, as `shieldmesh.channels` takes it.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self._channel = channels.blocking(target)
        self._closed = threading.Event()

    @property
    def closed(self) -> bool:
        """Whether it can be used no longer."""
        return self._closed.is_set()

    def close(self) -> None:
        """Cancels what runs, whichever thread reads it, and closes the connection."""
        self._closed.set()
        self._channel.close()

    def pause(self, seconds: float) -> None:
        """Waits.

        Raises:
            CancelledCallError: the line is closed meanwhile.
        """
        if self._closed.wait(seconds):
            raise CancelledCallError("the client was closed while a turn was being read")

    def ask(
        self,
        name: str,
        method: "Callable[[grpc.Channel], grpc.UnaryUnaryMultiCallable[Q, A]]",
        call: Call[Q],
    ) -> A:
        """The response to a call of the method with this name, such as "ChatService/GetTurn".

        Raises:
            MeshError: it failed.
        """
        outgoing = _outgoing(name, self.target, call)
        rpc = method(self._channel)
        code = grpc.StatusCode.OK
        try:
            return rpc(call.request, timeout=outgoing.timeout, metadata=tuple(outgoing.metadata))
        except grpc.RpcError as error:
            code = cast("grpc.aio.AioRpcError", error).code()  # errors of both kinds of calls have one
            raise self.explain(_typed(error, name), 0) from None
        finally:
            _tell(outgoing, code)

    @contextmanager
    def stream(self, call: AnyCall) -> "Generator[Iterator[chat_pb2.ChatEvent]]":
        """The messages that answer a call; leaving the block cancels it if it still runs.

        Raises:
            MeshError: it failed.
        """
        name = "ChatService/Resume" if isinstance(call.request, chat_pb2.ResumeRequest) else "ChatService/Chat"
        try:
            stream = self._open(call, name)
            try:
                yield iter(stream)
            finally:
                stream.cancel()
        except grpc.RpcError as error:
            raise _typed(error, name) from None

    def explain(self, error: MeshError, received: int) -> MeshError:
        """See `reach.explain`."""
        return explain(error, self.target, received)

    def _open(self, call: AnyCall, name: str) -> "_Stream":
        outgoing = _outgoing(name, self.target, call)
        stub = chat_pb2_grpc.ChatServiceStub(self._channel)
        options: _Options = {"timeout": outgoing.timeout, "metadata": tuple(outgoing.metadata)}
        if isinstance(call.request, chat_pb2.ResumeRequest):
            stream: _Stream = stub.Resume(call.request, **options)
        else:
            stream = stub.Chat(call.request, **options)
        if not stream.add_callback(lambda: _tell(outgoing, stream.code())):
            _tell(outgoing, stream.code())
        return stream


class _Stream(Protocol):
    """What gRPC returns for a call whose answer is a stream; it has no public name for it."""

    def __iter__(self) -> Iterator[chat_pb2.ChatEvent]: ...
    def cancel(self) -> object: ...
    def code(self) -> grpc.StatusCode: ...
    def add_callback(self, callback: Callable[[], None]) -> bool: ...


class _Options(TypedDict):
    timeout: float | None
    metadata: tuple[tuple[str, str], ...]


def _outgoing(name: str, target: str, call: Call[Any]) -> ClientCall:  # Any: whatever is asked
    """A call as `shieldmesh.channels` would make it: with the current context's identity, trace and deadline."""
    outgoing = ClientCall(f"{_PACKAGE}.{name}", target, [], call.timeout)
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
        typed.seen_by(Hop("chat", f"{_PACKAGE}.{name}", reason=typed.reason))
    return typed
