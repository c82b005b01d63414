"""One call, from the side of its caller."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Generator
from dataclasses import dataclass
from typing import Final, TypeVar

import grpc

from shieldmesh.inprocess.pipe import ClosedPipeError, Pipe

Serialize = Callable[[object], bytes]
Deserialize = Callable[[bytes], object]
T = TypeVar("T")

CANCELLED: Final = "Locally cancelled by application!"
"""What grpc.aio says of a call that this side gave up."""


@dataclass(frozen=True, slots=True)
class Status:
    """How a call ended."""

    code: grpc.StatusCode
    details: str = ""
    trailing: tuple[tuple[str, str | bytes], ...] = ()


class Call(grpc.aio.Call):
    """What a stub's method gives, for all four kinds of methods; see `grpc.aio.Call`.

    Attributes:
        requests: On their way to the server.
        responses: On their way back.
        deadline: On `time.monotonic()`'s clock; None means none.
        work: The server's task.
    """

    def __init__(self, serialize: Serialize | None, deserialize: Deserialize | None, timeout: float | None) -> None:
        self.requests = Pipe()
        self.responses = Pipe()
        self.deadline = None if timeout is None else time.monotonic() + timeout
        self.work: asyncio.Task[None] | None = None
        self._serialize = serialize
        self._deserialize = deserialize
        self._status: Status | None = None
        self._ended = asyncio.Event()
        self._callbacks: list[Callable[[Call], None]] = []
        self._loop = asyncio.get_running_loop()
        self._alarm = None if timeout is None else self._loop.call_later(timeout, self._expire)

    def end(self, status: Status) -> None:
        """Notes how the call ended, if it has not ended yet, and tells whoever wants to know."""
        if self._status is not None:
            return
        self._status = status
        if self._alarm is not None:
            self._alarm.cancel()
        self.requests.close(drop=True)
        self.responses.close(drop=status.code is not grpc.StatusCode.OK and status.details == CANCELLED)
        self._ended.set()
        for callback in self._callbacks:
            self._loop.call_soon(callback, self)

    # What the caller does

    def send_only(self, message: object) -> None:
        """Sends the one request of a call."""
        self.requests.fill(_bytes(message, self._serialize))

    async def write(self, message: object) -> None:
        """Sends a request; waits for the server to follow."""
        try:
            await self.requests.put(_bytes(message, self._serialize))
        except ClosedPipeError:
            self._raise_failure()
            raise asyncio.InvalidStateError("the call has ended") from None

    async def done_writing(self) -> None:
        """Says that no request follows, once the server has taken those before."""
        self.requests.close()

    async def read(self) -> object:
        """The next response; `grpc.aio.EOF` after the last."""
        try:
            message = await self.responses.get()
            if message is None:
                await self._ended.wait()
                self._raise_failure()
                return grpc.aio.EOF
        except asyncio.CancelledError:
            self.cancel()
            raise
        return _value(message, self._deserialize)

    async def __aiter__(self) -> AsyncIterator[object]:
        while (response := await self.read()) is not grpc.aio.EOF:
            yield response

    def __await__(self) -> Generator[object, None, object]:
        return self.read().__await__()

    def cancel(self) -> bool:
        """Gives the call up; whether it was still running."""
        running = self._status is None
        self.end(Status(grpc.StatusCode.CANCELLED, CANCELLED))
        if self.work is not None:
            self.work.cancel()
        return running

    # What is known of it

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._status is not None and self._status.code is grpc.StatusCode.CANCELLED

    def done(self) -> bool:
        """Whether it has ended."""
        return self._status is not None

    def time_remaining(self) -> float | None:
        """Seconds until the deadline; None without one."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def add_done_callback(self, callback: Callable[["Call"], None]) -> None:
        """Has `callback` called when the call has ended."""
        if self._status is None:
            self._callbacks.append(callback)
        else:
            self._loop.call_soon(callback, self)

    async def initial_metadata(self) -> grpc.aio.Metadata:
        """There is none."""
        return grpc.aio.Metadata()

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        """What the server says at the end."""
        return grpc.aio.Metadata(*(await self._end()).trailing)

    async def code(self) -> grpc.StatusCode:
        """How it ended."""
        return (await self._end()).code

    async def details(self) -> str:
        """What is said of how it ended."""
        return (await self._end()).details

    async def wait_for_connection(self) -> None:
        """There is nothing to wait for."""

    async def _end(self) -> Status:
        while self._status is None:
            await self._ended.wait()
        return self._status

    def _expire(self) -> None:
        self.end(Status(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"))
        if self.work is not None:
            self.work.cancel()

    def _raise_failure(self) -> None:
        status = self._status
        if status is None or status.code is grpc.StatusCode.OK:
            return
        if status.details == CANCELLED:
            raise asyncio.CancelledError
        trailing = grpc.aio.Metadata(*status.trailing)
        raise grpc.aio.AioRpcError(status.code, grpc.aio.Metadata(), trailing, status.details)


def _bytes(message: object, serialize: Serialize | None) -> bytes:
    if serialize is not None:
        return serialize(message)
    assert isinstance(message, bytes)  # noqa: S101  # gRPC's contract for methods without one
    return message


def _value(message: bytes, deserialize: Deserialize | None) -> object:
    return message if deserialize is None else deserialize(message)
