"""A server without a port, and what it does with one call."""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast
from weakref import WeakKeyDictionary

import grpc

from shieldmesh.inprocess.call import Call, Status
from shieldmesh.inprocess.pipe import ClosedPipeError

PREFIX: Final = "inprocess:"

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # Any: requests and responses differ per method
Pairs = tuple[tuple[str, str], ...]

_served: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, "Server"]]] = WeakKeyDictionary()
"""The servers of each loop, by name: a call stays in the loop that makes it."""


def find(target: str) -> "Server | None":
    """The running loop's server at `inprocess:NAME`."""
    return _served.get(asyncio.get_running_loop(), {}).get(target)


@dataclass(frozen=True, slots=True)
class _Details:
    """See `grpc.HandlerCallDetails`."""

    method: str
    invocation_metadata: Pairs


class Server(grpc.aio.Server):
    """Serves the running loop's calls to the targets `inprocess:NAME`; see `grpc.aio.Server`."""

    def __init__(self, interceptors: Sequence[grpc.aio.ServerInterceptor] = ()) -> None:
        self._interceptors = interceptors
        self._handlers: dict[str, Handler] = {}
        self._targets: list[str] = []
        self._calls: set[Call] = set()
        self._stopped = asyncio.Event()

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Handler]) -> None:
        """Adds the methods of a service."""
        self._handlers |= {f"/{service_name}/{name}": handler for name, handler in method_handlers.items()}

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[object]) -> None:
        """Adds nothing: generated code registers the same methods by name."""

    def add_insecure_port(self, address: str) -> int:
        """Serves at `inprocess:NAME`."""
        if not address.startswith(PREFIX) or address in self._here():
            raise RuntimeError(f"cannot serve at {address}: expected {PREFIX}NAME, with a name that is free")
        self._here()[address] = self
        self._targets.append(address)
        return 0

    def add_secure_port(self, address: str, server_credentials: grpc.ServerCredentials) -> int:
        """There is nothing to encrypt."""
        del server_credentials
        raise RuntimeError(f"cannot serve {address} with TLS: nothing leaves this process")

    async def start(self) -> None:
        """Nothing is to be done: targets are served as soon as they are added."""

    async def stop(self, grace: float | None) -> None:
        """Takes no new calls; cancels those that still run after `grace` seconds."""
        for target in self._targets:
            self._here().pop(target, None)
        self._targets.clear()
        work = [call.work for call in self._calls if call.work is not None]
        if work and grace:
            await asyncio.wait(work, timeout=grace)
        for call in list(self._calls):
            call.end(Status(grpc.StatusCode.UNAVAILABLE, "the server stopped"))
            if call.work is not None:
                call.work.cancel()
        self._stopped.set()

    async def wait_for_termination(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109  # grpc.aio's name
        """Returns when it is stopped, or after `timeout` seconds: whether that was so."""
        try:
            async with asyncio.timeout(timeout):
                await self._stopped.wait()
        except TimeoutError:
            return True
        return False

    def serve(self, call: Call, method: str, metadata: Pairs) -> None:
        """Begins to serve a call, in a context of nobody's."""
        self._calls.add(call)
        work = self._serve(call, _Details(method, metadata))
        call.work = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
        call.work.add_done_callback(lambda _: self._calls.discard(call))

    async def _serve(self, call: Call, details: _Details) -> None:
        context = _Context(call, details.invocation_metadata)
        try:
            handler = await self._handler(details)
            if handler is None:
                call.end(Status(grpc.StatusCode.UNIMPLEMENTED, "Method not found!"))
                return
            context.handler = handler
            await _run(handler, call, context)
            call.end(Status(grpc.StatusCode.OK, trailing=context.trailing))
        except grpc.aio.AbortError:
            call.end(context.aborted)
        except asyncio.CancelledError:
            call.end(Status(grpc.StatusCode.CANCELLED, "the server cancelled the call"))
            raise
        except ClosedPipeError:
            pass  # the caller is gone
        except Exception as error:
            call.end(Status(grpc.StatusCode.UNKNOWN, f"Unexpected {type(error).__name__}"))
            raise

    async def _handler(self, details: _Details) -> "Handler | None":
        async def innermost(details: grpc.HandlerCallDetails) -> "Handler | None":
            return self._handlers.get(str(details.method))

        ask = innermost
        for interceptor in reversed(self._interceptors):
            ask = _around(interceptor, ask)
        return await ask(cast("grpc.HandlerCallDetails", details))

    def _here(self) -> dict[str, "Server"]:
        return _served.setdefault(asyncio.get_running_loop(), {})


def _around(interceptor: grpc.aio.ServerInterceptor, inner: Any) -> Any:  # as grpc.aio says
    async def ask(details: grpc.HandlerCallDetails) -> Any:
        return await interceptor.intercept_service(inner, details)

    return ask


class _Context:
    """What a handler knows of its call; see `grpc.aio.ServicerContext`."""

    def __init__(self, call: Call, metadata: Pairs) -> None:
        self.handler: Handler | None = None
        self.trailing: tuple[tuple[str, str | bytes], ...] = ()
        self.aborted = Status(grpc.StatusCode.UNKNOWN)
        self._call = call
        self._metadata = metadata

    async def write(self, message: object) -> None:
        serialize = self.handler.response_serializer if self.handler is not None else None
        try:
            await self._call.responses.put(cast("bytes", message) if serialize is None else serialize(message))
        except ClosedPipeError:
            raise grpc.aio.InternalError("the caller is gone") from None

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Sequence[tuple[str, str | bytes]] = ()
    ) -> None:
        self.aborted = Status(code, details, tuple(trailing_metadata) or self.trailing)
        raise grpc.aio.AbortError

    def set_trailing_metadata(self, trailing_metadata: Sequence[tuple[str, str | bytes]]) -> None:
        self.trailing = tuple(trailing_metadata)

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self.trailing

    def invocation_metadata(self) -> Pairs:
        return self._metadata

    def time_remaining(self) -> float | None:
        return self._call.time_remaining()

    def cancelled(self) -> bool:
        return self._call.cancelled()


async def _run(handler: Handler, call: Call, context: _Context) -> None:
    """Has the handler answer; its responses are in the call then."""
    behaviours = cast("Any", handler)  # it has the one behaviour of its arity
    asked = _requests(call, handler) if handler.request_streaming else await anext(_requests(call, handler))
    if not handler.response_streaming:
        behaviour = behaviours.stream_unary if handler.request_streaming else behaviours.unary_unary
        await context.write(await behaviour(asked, context))
        return
    behaviour = behaviours.stream_stream if handler.request_streaming else behaviours.unary_stream
    answer = behaviour(asked, context)
    if not hasattr(answer, "__aiter__"):
        await answer  # it writes by itself
        return
    async for response in answer:
        await context.write(response)


async def _requests(call: Call, handler: Handler) -> AsyncIterator[Any]:
    while (message := await call.requests.get()) is not None:
        yield message if handler.request_deserializer is None else handler.request_deserializer(message)
