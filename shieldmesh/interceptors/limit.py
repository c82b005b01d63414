"""What `asyncio.timeout` does, for blocks that are entered and left without a wait."""

import asyncio


class Limit:
    """A block of this task; a subclass says what is raised where `end` is what ended it."""

    __slots__ = ("_before", "_ended", "_task")

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # calls are served in tasks
        self._task = task
        self._before = task.cancelling()
        self._ended = False

    def end(self) -> None:
        """Cancels what runs in the block."""
        if not self._ended:
            self._ended = True
            self._task.cancel()

    def is_why(self, kind: type[BaseException] | None) -> bool:
        """Whether the block ends with this kind of error because of `end`, and of nobody else; to be asked once."""
        return self._ended and self._task.uncancel() <= self._before and kind is asyncio.CancelledError
