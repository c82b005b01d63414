"""Calls that end when the code that made them moves on, and fail with typed errors.

A `grpc.aio` call goes on when its reader leaves the loop, and raises errors that know no path. These three helpers
cancel what is left at the end of the block and raise `MeshError`s.
"""

from __future__ import annotations  # grpc.aio's call types cannot be subscripted before grpcio 1.84

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Final, TypeVar, cast

import grpc

from shieldmesh import errors
from shieldmesh.errors import Hop, MeshError, UnavailableError
from shieldmesh.interceptors.client import WRITE_FAILED, at_once

Q = TypeVar("Q")
A = TypeVar("A")
C = TypeVar("C", bound=grpc.aio.Call)


async def unary(rpc: grpc.aio.UnaryUnaryMultiCallable[Q, A], request: Q, *, timeout: float | None = None) -> A:
    """The response to `request`.

    Raises:
        MeshError: the call failed.
    """
    try:
        return await rpc(request, timeout=timeout)
    except grpc.aio.AioRpcError as error:
        raise _typed(rpc, error) from None


def stream(
    rpc: grpc.aio.UnaryStreamMultiCallable[Q, A], request: Q, *, timeout: float | None = None
) -> AbstractAsyncContextManager[grpc.aio.UnaryStreamCall[Q, A]]:
    """The responses to `request`; leaving the block cancels the call if it still runs.

    Raises:
        MeshError: the call failed.
    """
    return _Open(rpc, lambda: rpc(request, timeout=timeout))


def bidi(
    rpc: grpc.aio.StreamStreamMultiCallable[Q, A], *, timeout: float | None = None
) -> AbstractAsyncContextManager[grpc.aio.StreamStreamCall[Q, A]]:
    """A call to write to and read from; leaving the block cancels it if it still runs.

    Raises:
        MeshError: the call failed.
    """
    ending = _Ending()

    def call() -> grpc.aio.StreamStreamCall[Q, A]:
        made = rpc(timeout=timeout)
        made.add_done_callback(ending.note)
        return made

    return _Open(rpc, call, ending)


class _Open(AbstractAsyncContextManager[C]):
    """An open call.

    No asynchronous generator: a loop that ends closes all of those at once, and the one around this block would find
    this one closed already.
    """

    __slots__ = ("_call", "_ending", "_make", "_rpc")

    def __init__(self, rpc: object, make: Callable[[], C], ending: _Ending | None = None) -> None:
        self._rpc = rpc
        self._make = make
        self._ending = ending

    async def __aenter__(self) -> C:
        self._call = self._make()
        return self._call

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None
    ) -> None:
        self._call.cancel()
        if isinstance(error, grpc.aio.AioRpcError):
            raise _typed(self._rpc, error, self._ending) from None
        if isinstance(error, BaseExceptionGroup):
            # Tasks that share the call fail in a group, with whatever else went wrong beside them.
            raise _typed_group(self._rpc, cast("BaseExceptionGroup[BaseException]", error), self._ending) from None


class _Ending:
    """How a call that is written to really ended.

    A write to a call that its server has ended fails, and grpc.aio puts this failure in the place of the status that
    the server sent. What the status was is known only to who looked when it came.
    """

    def __init__(self) -> None:
        self.error: grpc.aio.AioRpcError | None = None

    def note(self, call: grpc.aio.Call) -> None:
        """Looks at the status of a call that is done."""
        code, details = at_once(call.code()), at_once(call.details())
        if code is not None and code is not grpc.StatusCode.OK and details != WRITE_FAILED:
            initial, trailing = grpc.aio.Metadata(), at_once(call.trailing_metadata())
            self.error = grpc.aio.AioRpcError(code, initial, trailing or initial, details)

    def of(self, error: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError:
        """What `error` should have been."""
        return self.error if self.error is not None and error.details() == WRITE_FAILED else error


def _typed(rpc: object, error: grpc.aio.AioRpcError, ending: _Ending | None = None) -> MeshError:
    if ending is not None:
        error = ending.of(error)
    typed = errors.from_rpc_error(error)
    if error.details() == WRITE_FAILED:
        typed = UnavailableError("a service ended the call while it was written to")
    if not typed.hops:
        # No service of this mesh answered: the path ends at the one that was called.
        typed.seen_by(_callee(rpc, typed.reason))
    return typed


def _typed_group(
    rpc: object, group: BaseExceptionGroup[BaseException], ending: _Ending | None
) -> BaseExceptionGroup[BaseException]:
    leaves: list[BaseException] = []
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            leaves.append(_typed_group(rpc, cast("BaseExceptionGroup[BaseException]", error), ending))
        else:
            leaves.append(_typed(rpc, error, ending) if isinstance(error, grpc.aio.AioRpcError) else error)
    return group.derive(leaves)


_SERVED_BY: Final = {
    "ShieldService": "shield",
    "InferenceService": "inference",
    "ChatService": "orchestrator",
    "SessionService": "orchestrator",
}


def _callee(rpc: object, reason: str) -> Hop:
    method = str(getattr(rpc, "method", ""))
    contract = method.partition("/")[0].rpartition(".")[2]
    return Hop(service=_SERVED_BY.get(contract, contract or "unknown"), method=method, reason=reason)
