"""The one `grpc.aio.ServerInterceptor`: it runs each handler inside the mesh's interceptors, in the RPC's own task.

Streaming handlers are asynchronous generators for whoever writes them. Here they are driven as a coroutine: grpc.aio
would close a generator from another context when the client cancels during a write, and no ContextVar could be reset.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Final, TypeAlias, cast

import grpc

from shieldmesh.admission import Places
from shieldmesh.interceptors import progress
from shieldmesh.interceptors.call import CallerGoneError, ServerIdentity, ServerInterceptor
from shieldmesh.interceptors.serving import Method, Running, ServicerContext, Serving

# grpc's classes are generic for type checkers only, hence the quotes; request and response types differ per method.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"

UNLIMITED: Final[Mapping[str, Places]] = MappingProxyType({})
"""The limits of a server that has none."""

_OURS = "/shieldmesh."


class MeshInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every method of the mesh's own services; health and reflection pass as they are."""

    def __init__(
        self,
        server: ServerIdentity,
        interceptors: Sequence[ServerInterceptor],
        limits: Mapping[str, Places] = UNLIMITED,
    ) -> None:
        """What happens around the calls of a server.

        Args:
            server: Who serves.
            interceptors: Around each call, outermost first.
            limits: The methods (fully qualified) whose calls wait for a place, or are sent away, before anything is
                done for them; those of all others are never refused. Methods whose calls wait for each other need
                places of their own: calls that hold all of them could wait for those that get none.
        """
        self._server = server
        self._interceptors = interceptors
        self._limits = limits
        self._running = Running()
        self._known: dict[str, tuple[Handler, Handler]] = {}
        """The handlers of methods that were called, as they are and wrapped."""

    @property
    def running(self) -> int:
        """Calls being served, their cleanup included."""
        return self._running.calls

    async def wait_idle(self) -> None:
        """Returns when no call is being served and all have cleaned up."""
        await self._running.wait_idle()

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """See `grpc.aio.ServerInterceptor`."""
        handler = await continuation(handler_call_details)
        method = _text(handler_call_details.method)
        if handler is None or not method.startswith(_OURS):
            return handler
        known = self._known.get(method)
        if known is None or known[0] is not handler:
            known = self._known[method] = handler, self._wrapped(method.lstrip("/"), handler)
        return known[1]

    def _wrapped(self, name: str, handler: "Handler") -> "Handler":
        method = Method(self._server, name, self._interceptors, self._limits.get(name), self._running)
        behaviour, make = _parts(handler)
        serve = partial(_stream if handler.response_streaming else _unary, method, behaviour)
        return cast("Handler", make(serve, handler.request_deserializer, handler.response_serializer))


async def _unary(method: Method, behaviour: Callable[..., Any], request: Any, context: ServicerContext) -> Any:
    async with Serving(method, context) as call:
        response = await progress.gathered(method.name, behaviour(request, context))
        call.sent = 1
        return response


async def _stream(method: Method, behaviour: Callable[..., Any], request: Any, context: ServicerContext) -> None:
    async with Serving(method, context) as call, progress.streamed(method.name, context.write) as write:
        events = behaviour(request, context)
        try:
            async for event in events:
                call.writing = True
                try:
                    await write(event)
                except grpc.aio.InternalError as error:
                    # grpc.aio cancels this task for that, but the failed write can come first.
                    raise CallerGoneError from error
                finally:
                    call.writing = False
                call.sent += 1
                if call.written:
                    await _tell(call.written)
        finally:
            await events.aclose()


async def _tell(waiting: list[Callable[[], None]]) -> None:
    """Tells those who waited for a message to be written, who may cancel this task for it."""
    for each in waiting:
        each()
    waiting.clear()
    await asyncio.sleep(0)  # here a cancellation comes


def _parts(handler: "Handler") -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The handler's behaviour, and what makes a handler of its arity."""
    streams = (bool(handler.request_streaming), bool(handler.response_streaming))
    behaviour, make = {
        (False, False): (handler.unary_unary, grpc.unary_unary_rpc_method_handler),
        (False, True): (handler.unary_stream, grpc.unary_stream_rpc_method_handler),
        (True, False): (handler.stream_unary, grpc.stream_unary_rpc_method_handler),
        (True, True): (handler.stream_stream, grpc.stream_stream_rpc_method_handler),
    }[streams]
    return cast("Callable[..., Any]", behaviour), make  # a handler has the behaviour of its arity


def _text(method: str | bytes) -> str:
    return method.decode() if isinstance(method, bytes) else method
