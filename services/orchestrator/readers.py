"""Who reads a turn: its caller, and whoever resumed it or asked for it again."""

import asyncio
from collections.abc import Callable


class Readers:
    """Counts them, from the one who began the turn, and tells when there has been none for a while."""

    def __init__(self, patience: float | None, abandoned: Callable[[], object]) -> None:
        """Begins with one.

        Args:
            patience: Seconds without a reader after which `abandoned` is called; 0: at once; None: never.
            abandoned: What to do then.
        """
        self._patience = patience
        self._abandoned = abandoned
        self._count = 1
        self._waiting: asyncio.TimerHandle | None = None

    @property
    def present(self) -> bool:
        """Whether there is one now."""
        return self._count > 0

    def join(self) -> None:
        """One more reads."""
        self._count += 1
        self.forget()

    def leave(self) -> None:
        """One reads no longer."""
        self._count -= 1
        self.wait()

    def wait(self) -> None:
        """The time without a reader begins to run, where there is none."""
        if self._count or self._patience is None:
            return
        if self._patience == 0:
            self._abandoned()
        else:
            self._waiting = asyncio.get_running_loop().call_later(self._patience, self._abandoned)

    def forget(self) -> None:
        """The time that began to run without a reader does not count."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
