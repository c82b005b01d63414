"""One call being served: everything that happens around its handler.

A class and no stack of generators: it is entered and left for each call of a turn, and lives as long as a stream.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Any, Final

import grpc

from shieldmesh import errors
from shieldmesh.admission import Places
from shieldmesh.admission.places import Place
from shieldmesh.errors import MeshError
from shieldmesh.interceptors.call import CallerGoneError, Metadata, ServerCall, ServerIdentity, ServerInterceptor

ServicerContext = grpc.aio.ServicerContext[Any, Any]  # request and response types differ per method

_NO_RETRY: Final = ("grpc-retry-pushback-ms", "-1")
"""Tells the caller's gRPC not to try again by itself."""
_NONE: Final[Metadata] = MappingProxyType({})


class Running:
    """How many calls are being served, their cleanup included."""

    def __init__(self) -> None:
        self.calls = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def begin(self) -> None:
        """One more."""
        self.calls += 1
        self._idle.clear()

    def end(self) -> None:
        """One less."""
        self.calls -= 1
        if not self.calls:
            self._idle.set()

    async def wait_idle(self) -> None:
        """Returns when there are none."""
        await self._idle.wait()


@dataclass(frozen=True, slots=True)
class Method:
    """What the calls of a method have in common."""

    server: ServerIdentity
    name: str
    """Fully qualified, without a leading slash."""
    interceptors: Sequence[ServerInterceptor]
    places: Places | None
    """Of which each call holds one."""
    running: Running


class Serving:
    """Around one call: enters the interceptors, the first outermost, then waits for a place where one is needed.

    At the end each interceptor sees what those inside it made of the handler's error. What is a `MeshError` at last
    is the call's status.
    """

    __slots__ = ("_call", "_context", "_entered", "_method", "_place")

    def __init__(self, method: Method, context: ServicerContext) -> None:
        self._method = method
        self._context = context
        self._call = ServerCall(method.server, method.name, _metadata(context), context.time_remaining())
        self._entered: list[AbstractContextManager[object]] = []
        self._place: Place | None = None

    async def __aenter__(self) -> ServerCall:
        method = self._method
        method.running.begin()
        try:
            for intercept in method.interceptors:
                around = intercept(self._call)
                around.__enter__()
                self._entered.append(around)
            self._call.metadata = _NONE  # a stream lives long
            if method.places is not None:
                self._place = await method.places.enter()
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self._call

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None
    ) -> bool:
        try:
            if self._place is not None:
                self._place.leave()
            left = self._leave(error)
            try:
                if isinstance(left, MeshError):
                    await _abort(self._context, left)
                if left is not None and left is not error:
                    raise left
                return left is None
            finally:
                del left  # an error and the frame that raised it would keep each other
        finally:
            self._method.running.end()

    def _leave(self, error: BaseException | None) -> BaseException | None:
        """What is left of an error when all interceptors have seen it, the innermost first."""
        for around in reversed(self._entered):
            try:
                if error is None:
                    around.__exit__(None, None, None)
                elif around.__exit__(type(error), error, error.__traceback__):
                    error = None
            except BaseException as another:  # noqa: BLE001  # it goes on, outwards
                error = another
        try:
            return error
        finally:
            del error  # as above


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


def _metadata(context: ServicerContext) -> Metadata:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
