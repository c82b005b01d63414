"""The one `grpc.aio.ServerInterceptor`: it runs each handler inside the mesh's interceptors, in the RPC's own task.

Streaming handlers are asynchronous generators for whoever writes them. Here they are driven as a coroutine: grpc.aio
would close a generator from another context when the client cancels during a write, and no ContextVar could be reset.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from typing import Any, TypeAlias, cast

import grpc

from shieldmesh import errors
from shieldmesh.errors import MeshError
from shieldmesh.interceptors import progress
from shieldmesh.interceptors.call import CallerGoneError, Metadata, ServerCall, ServerIdentity, ServerInterceptor

# grpc's classes are generic for type checkers only, hence the quotes; request and response types differ per method.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"
ServicerContext = grpc.aio.ServicerContext[Any, Any]

_OURS = "/shieldmesh."
_NO_RETRY = ("grpc-retry-pushback-ms", "-1")
"""Tells the caller's gRPC not to try again by itself."""


class MeshInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every method of the mesh's own services; health and reflection pass as they are.

    Attributes:
        running: Calls being served, their cleanup included.
    """

    def __init__(self, server: ServerIdentity, interceptors: Sequence[ServerInterceptor]) -> None:
        self._server = server
        self._interceptors = interceptors
        self._idle = asyncio.Event()
        self._idle.set()
        self.running = 0

    async def wait_idle(self) -> None:
        """Returns when no call is being served and all have cleaned up."""
        await self._idle.wait()

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """See `grpc.aio.ServerInterceptor`."""
        handler = await continuation(handler_call_details)
        method = _text(handler_call_details.method)
        if handler is None or not method.startswith(_OURS):
            return handler
        serve = self._stream if handler.response_streaming else self._unary
        behaviour, make = _parts(handler)

        async def around(request: Any, context: ServicerContext) -> Any:
            return await serve(method.lstrip("/"), behaviour, request, context)

        return make(around, handler.request_deserializer, handler.response_serializer)

    async def _unary(self, method: str, behaviour: Callable[..., Any], request: Any, context: ServicerContext) -> Any:
        async with self._inside(method, context) as call:
            response = await progress.gathered(method, behaviour(request, context))
            call.sent = 1
            return response

    async def _stream(self, method: str, behaviour: Callable[..., Any], request: Any, context: ServicerContext) -> None:
        async with (
            self._inside(method, context) as call,
            progress.streamed(method, partial(_write, context)) as write,
            aclosing(behaviour(request, context)) as events,
        ):
            async for event in events:
                await write(event)
                call.sent += 1

    @asynccontextmanager
    async def _inside(self, method: str, context: ServicerContext) -> AsyncGenerator[ServerCall]:
        self.running += 1
        self._idle.clear()
        call = ServerCall(self._server, method, _metadata(context), context.time_remaining())
        try:
            async with AsyncExitStack() as stack:
                for intercept in self._interceptors:
                    await stack.enter_async_context(intercept(call))
                yield call
        except MeshError as error:
            await _abort(context, error)
        finally:
            self.running -= 1
            if not self.running:
                self._idle.set()


async def _write(context: ServicerContext, event: object) -> None:
    try:
        await context.write(event)
    except grpc.aio.InternalError as error:
        # grpc.aio cancels this task for that, but the failed write can come first.
        raise CallerGoneError from error


async def _abort(context: ServicerContext, error: MeshError) -> None:
    details = (errors.STATUS_DETAILS_KEY, errors.to_status(error).SerializeToString())
    # What the handler wants to say is said, too: an error's metadata would replace it.
    trailing: list[tuple[str, str | bytes]] = [*(context.trailing_metadata() or ()), details]
    if len(error.hops) > 1:
        # What failed lies behind this service, which has tried again already: retries at every hop would multiply.
        trailing.append(_NO_RETRY)
    try:
        await context.abort(error.code, error.message, tuple(trailing))
    except grpc.aio.InternalError as failure:
        raise CallerGoneError from failure


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


def _metadata(context: ServicerContext) -> Metadata:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


def _text(method: str | bytes) -> str:
    return method.decode() if isinstance(method, bytes) else method
