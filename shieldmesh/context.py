"""Who a piece of work belongs to: one immutable context per call, carried by one ContextVar.

The server interceptor sets it, the client interceptor sends it on, and nothing writes it in place. Tasks inherit
it. Where they do not reach, it is carried, OpenTelemetry's context with it:

- into a thread: `run_in_thread`, or `bind` for any executor;
- into another process: `carry`;
- to a worker that serves many turns: the worker starts `detached`, each item brings what `capture` gave.
"""

import asyncio
import contextvars
import re
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Generic, ParamSpec, TypeVar

import uuid_utils
from opentelemetry import context as trace_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

P = ParamSpec("P")
T = TypeVar("T")

ID_PATTERN: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
"""What a session, request or tenant id may be."""
SHADOW: Final = "shadow"
"""The session value that marks work for a policy which only runs beside another; it holds the other's name."""

NO_VALUES: Final[Mapping[str, str]] = MappingProxyType({})
"""What calls without session values have."""


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The identity of one call. Empty strings mean: not known here."""

    session_id: str = ""
    request_id: str = ""
    """The turn: a UUIDv7."""
    tenant_id: str = ""
    profile: str = ""
    profile_version: str = ""
    """Which policy the profile was when the turn began."""
    deadline: float | None = None
    """When the work must have ended, on `time.monotonic()`'s clock, in seconds."""
    values: Mapping[str, str] = field(default_factory=lambda: NO_VALUES)
    """Session values: small settings made at the entry. Read-only."""

    def remaining(self) -> float | None:
        """Seconds until the deadline, 0 when it has passed, None when there is none."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def until(self, deadline: float) -> "RequestContext":
        """The same with another deadline."""
        return RequestContext(
            self.session_id,
            self.request_id,
            self.tenant_id,
            self.profile,
            self.profile_version,
            deadline,
            self.values,
        )

    def __reduce__(self) -> tuple[object, ...]:
        # The read-only view of the values cannot be pickled; what it shows can.
        identity = (self.session_id, self.request_id, self.tenant_id, self.profile, self.profile_version, self.deadline)
        return _unpickled, (identity, dict(self.values))


def _unpickled(identity: tuple[str, str, str, str, str, float | None], values: dict[str, str]) -> RequestContext:
    return RequestContext(*identity, MappingProxyType(values))


_EMPTY: Final = RequestContext()
_TRACE: Final = TraceContextTextMapPropagator()
_current: contextvars.ContextVar[RequestContext] = contextvars.ContextVar("shieldmesh", default=_EMPTY)


def current() -> RequestContext:
    """The context of the call that this code works for; an empty one outside any call."""
    return _current.get()


class use:  # noqa: N801  # a verb where it is used, as the context managers of contextlib are
    """Makes `context` the current one inside the block.

    Enter and leave it in the same task, and never keep it over a `yield` of an asynchronous generator: a generator can
    be closed from another task, where the old value cannot be restored.
    """

    __slots__ = ("_context", "_token")

    def __init__(self, context: RequestContext) -> None:
        self._context = context

    def __enter__(self) -> RequestContext:
        self._token = _current.set(self._context)
        return self._context

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)


def bind(fn: Callable[P, T]) -> Callable[P, T]:
    """A callable that runs `fn` in a copy of this moment's context, wherever and however often it is called.

    It carries everything that lives in ContextVars: this module's context, OpenTelemetry's, structlog's.
    """
    captured = contextvars.copy_context()

    def bound(*args: P.args, **kwargs: P.kwargs) -> T:
        return captured.copy().run(fn, *args, **kwargs)

    return bound


async def run_in_thread(fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs a blocking `fn` in a thread of the loop's executor, in this call's context.

    Cancelling the caller does not stop the thread: give `fn` a way to notice.
    """
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(None, bind(lambda: fn(*args, **kwargs)))


@dataclass(frozen=True, slots=True)
class Captured:
    """The context and the trace of the moment of `capture`, as a value that queues, threads and pickle can take.

    The deadline stays valid in the processes of one machine, which share the monotonic clock.
    """

    identity: RequestContext
    trace: Mapping[str, str]

    @contextmanager
    def use(self) -> Generator[RequestContext]:
        """Makes both current inside the block; what `use` says of tasks and generators holds here, too."""
        token = trace_context.attach(_TRACE.extract(self.trace, trace_context.Context()))
        try:
            with use(self.identity) as identity:
                yield identity
        finally:
            trace_context.detach(token)


def capture() -> Captured:
    """This moment's context and trace, for an item of work that a long-lived worker will do."""
    carrier: dict[str, str] = {}
    _TRACE.inject(carrier)
    return Captured(current(), carrier)


def carry(fn: Callable[P, T]) -> Callable[P, T]:
    """Like `bind`, for another process: the callable can be pickled if `fn` can, as functions of modules can.

    It carries this module's context and the trace, and not what other libraries keep in ContextVars.
    """
    return _Carried(fn, capture())


@dataclass(frozen=True, slots=True)
class _Carried(Generic[P, T]):
    fn: Callable[P, T]
    captured: Captured

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        with self.captured.use():
            return self.fn(*args, **kwargs)


def detached() -> contextvars.Context:
    """A context of nobody, to start a worker in that outlives the turn which happens to need it first.

    For a task: `create_task(work(), context=detached())`; for a thread: `Thread(target=detached().run, args=(work,))`.
    """
    return contextvars.Context()


def new_id() -> str:
    """A new UUIDv7: unique, unguessable in its random part, and sorted by time."""
    return str(uuid_utils.uuid7())
