"""What `asyncio.timeout` does, for blocks around a handler that are entered and left without a wait."""

import asyncio
from typing import Final

from shieldmesh.interceptors.call import ServerCall

WRITE_SECONDS: Final = 1.0
"""How long the end of a call waits for a message that is on its way out."""


class Limit:
    """A block of the task that serves a call; a subclass says what is raised where `end` is what ended it.

    grpc.aio forgets a message whose write is cancelled, but gRPC's core does not, and takes no status before that
    message has left: the caller would hear of no end. So a handler is cancelled between its messages, unless its caller
    reads nothing.
    """

    __slots__ = ("_before", "_call", "_cancelled", "_ended", "_task", "_timer")

    def __init__(self, call: ServerCall) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # calls are served in tasks
        self._task = task
        self._call = call
        self._before = task.cancelling()
        self._ended = False
        self._cancelled = False
        self._timer: asyncio.TimerHandle | None = None

    def end(self) -> None:
        """Cancels what runs in the block, as soon as it has written the message that it writes."""
        if self._ended:
            return
        self._ended = True
        if self._call.writing:
            self._call.written.append(self._cancel)
            self._timer = asyncio.get_running_loop().call_later(WRITE_SECONDS, self._cancel)
        else:
            self._cancel()

    def is_why(self, kind: type[BaseException] | None) -> bool:
        """Whether the block ends with this kind of error because of `end`, and of nobody else; to be asked once."""
        if self._timer is not None:
            self._timer.cancel()
        ended = self._cancelled
        self._ended = self._cancelled = True  # it has ended, whatever comes now
        return ended and self._task.uncancel() <= self._before and kind is asyncio.CancelledError

    def _cancel(self) -> None:
        if not self._cancelled:
            self._cancelled = True
            self._task.cancel()
