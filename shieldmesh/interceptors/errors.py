"""Every failure leaves as one typed error that knows its way; no exception text leaves the process."""

import asyncio
import logging
import time
import traceback
from contextlib import AbstractContextManager
from types import TracebackType
from typing import cast

import grpc
from opentelemetry import trace

from shieldmesh import errors
from shieldmesh.errors import Hop, InternalError, MeshError
from shieldmesh.interceptors.call import CallerGoneError, ServerCall
from shieldmesh.telemetry import span_id

_log = logging.getLogger("shieldmesh.rpc")


def serve(call: ServerCall) -> AbstractContextManager[None]:
    """Turns whatever the handler raises into a MeshError with this hop added.

    A cancellation from outside stays one. A `CancelledError` of an inner task would leave the caller without any
    status, waiting for its deadline: it becomes an error like any other.
    """
    return _Typed(call)


class _Typed:
    __slots__ = ("_call",)

    def __init__(self, call: ServerCall) -> None:
        self._call = call

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None
    ) -> None:
        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            if isinstance(error, CallerGoneError) or (task is not None and task.cancelling()):
                return
            inner = InternalError("a part of the work was cancelled", reason="INNER_CANCELLED")
            raise _with_hop(inner, self._call) from None
        if isinstance(error, Exception | BaseExceptionGroup):
            seen = _with_hop(typed(cast("BaseException", error)), self._call)
            if seen is not error:
                raise seen from error


def typed(error: BaseException) -> MeshError:
    """The error as others may see it: itself, what a group of errors has to say, or a word for a defect."""
    if isinstance(error, BaseExceptionGroup):
        return _first_cause(cast("BaseExceptionGroup[BaseException]", error))
    return _translate(error)


def _first_cause(group: BaseExceptionGroup[BaseException]) -> MeshError:
    """The error of a task group that says most: a typed one before a defect."""
    leaves = [_translate(error) for error in _leaves(group)]
    return next((error for error in leaves if not isinstance(error, InternalError)), leaves[0])


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    leaves: list[BaseException] = []
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            leaves += _leaves(cast("BaseExceptionGroup[BaseException]", error))
        else:
            leaves.append(error)
    return leaves


def _translate(error: BaseException) -> MeshError:
    if isinstance(error, MeshError):
        return error
    if isinstance(error, grpc.aio.AioRpcError):
        return errors.from_rpc_error(error)
    # Neither the caller nor the log sees the exception's text: it can quote what a user said.
    frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    _log.error("a handler failed with %s at %s", type(error).__name__, " > ".join(frames))
    return InternalError("the service failed; its log says where")


def _with_hop(error: MeshError, call: ServerCall) -> MeshError:
    error.seen_by(
        Hop(
            service=call.server.service,
            method=call.method,
            instance=call.server.instance,
            span_id=span_id(trace.get_current_span()),
            elapsed=time.monotonic() - call.started,
            reason=error.reason,
        )
    )
    return error
