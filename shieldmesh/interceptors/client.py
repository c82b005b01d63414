"""A channel whose every call carries the current context.

It stands where `grpc.aio` client interceptors would: those put a queue before each message of a stream that the client
writes, lose cancellations of unary calls, and never hear of an abandoned one (docs/adr/0002).
"""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar, cast

import grpc

from shieldmesh.interceptors import CLIENT
from shieldmesh.interceptors.call import ClientCall
from shieldmesh.telemetry import undisturbed

T = TypeVar("T")


class ContextCallable:
    """One RPC of a channel; calling it makes a call of grpc.aio with the interceptors' metadata and timeout."""

    # The serialised types differ per RPC and are checked at the generated stubs: Any is what grpc.aio itself says.
    def __init__(self, raw: Callable[..., Any], method: str, target: str) -> None:
        self._raw = raw
        self.method = method.lstrip("/")
        self.target = target

    def __call__(  # noqa: D102
        self, *request: Any, timeout: float | None = None, metadata: tuple[tuple[str, str], ...] = (), **options: Any
    ) -> Any:
        call = ClientCall(self.method, self.target, list(metadata), timeout)
        for intercept in CLIENT:
            intercept(call)
        try:
            with undisturbed():
                raw = self._raw(*request, timeout=call.timeout, metadata=grpc.aio.Metadata(*call.metadata), **options)
        except BaseException:
            # There is no call, for example because the channel is closed.
            _tell_all(call, grpc.StatusCode.UNKNOWN)
            raise
        call.metadata.clear()  # it is sent, and a stream lives long
        raw.add_done_callback(partial(_tell, call))
        return raw


class ContextChannel(grpc.aio.Channel):
    """A `grpc.aio.Channel` that sends the context of the code that makes each call."""

    def __init__(self, raw: grpc.aio.Channel, target: str) -> None:
        self._raw = raw
        self._target = target

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """See `grpc.aio.Channel`."""
        return ContextCallable(self._raw.unary_unary(method, *args, **kwargs), method, self._target)

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """See `grpc.aio.Channel`."""
        return ContextCallable(self._raw.unary_stream(method, *args, **kwargs), method, self._target)

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """See `grpc.aio.Channel`."""
        return ContextCallable(self._raw.stream_unary(method, *args, **kwargs), method, self._target)

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """See `grpc.aio.Channel`."""
        return ContextCallable(self._raw.stream_stream(method, *args, **kwargs), method, self._target)

    async def close(self, grace: float | None = None) -> None:
        """Ends the running calls after `grace` seconds and closes the connection."""
        await self._raw.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """The connection's state."""
        return self._raw.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Returns when the state is another than the given one."""
        await self._raw.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Returns when the connection stands."""
        await self._raw.channel_ready()

    async def __aenter__(self) -> "ContextChannel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


# What grpc.aio says about a call that ended because this side cancelled it, or forgot it.
_GIVEN_UP: Final = frozenset({"Locally cancelled by application!", "Cancelled upon garbage collection!"})


WRITE_FAILED: Final = "Internal error from Core"
"""What grpc.aio says of a call after a failed write. The status that the server sent may come before or after it."""
_LOOKS: Final = 20
_A_MOMENT: Final = 0.005


def _tell(call: ClientCall, done: grpc.aio.Call, looks: int = _LOOKS) -> None:
    if looks and at_once(done.details()) == WRITE_FAILED:
        # A service ended the call while it was written to, as one does that blocks. What it said comes in a moment, and
        # nobody tells when: a call has one end only.
        asyncio.get_running_loop().call_later(_A_MOMENT, _tell, call, done, looks - 1)
        return
    code = at_once(done.code())
    call.given_up = code is grpc.StatusCode.CANCELLED and at_once(done.details()) in _GIVEN_UP
    _tell_all(call, code or grpc.StatusCode.UNKNOWN)


def _tell_all(call: ClientCall, code: grpc.StatusCode) -> None:
    for tell in call.when_done:
        tell(code)


def at_once(coroutine: Coroutine[Any, Any, T]) -> T | None:
    """The result of a coroutine that has no reason to wait, as those of a call that is done."""
    try:
        coroutine.send(None)
    except StopIteration as result:
        return cast("T", result.value)  # what a coroutine returns, its StopIteration brings
    coroutine.close()
    return None
