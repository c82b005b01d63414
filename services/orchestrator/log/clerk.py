"""The thread that has the turn log's file: it writes what has gathered in one go, and answers questions between."""

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar, TypeVarTuple, Unpack

from shieldmesh import context
from shieldmesh.errors import UnavailableError

from .file import Batch, LogFile, LogFileError

T = TypeVar("T")
Args = TypeVarTuple("Args")
Written = Callable[[Batch, str], None]
Question: TypeAlias = Callable[[LogFile], None]

SWEEP_SECONDS: Final = 60.0
"""How often turns whose time is over are deleted."""

_QUIT: Final = None


class Clerk:
    """A thread with a file, for one event loop."""

    def __init__(self, written: Written) -> None:
        """`written` is called in the loop with each batch that was kept, or that failed, and the name of the error."""
        self._loop = asyncio.get_running_loop()
        self._written = written
        self._work: queue.SimpleQueue[Batch | Question | None] = queue.SimpleQueue()
        self._left: asyncio.Future[None] = self._loop.create_future()
        self._leaving = False

    async def start(self, path: Path | None, retention: float, claim_window: float) -> None:
        """Opens the file; see `LogFile`.

        Raises:
            LogFileError: it cannot be used.
        """
        opened: asyncio.Future[None] = self._loop.create_future()
        # It works for all turns: it must not keep the context of whoever came first.
        run = partial(context.detached().run, self._run, partial(LogFile, path, retention, claim_window), opened)
        threading.Thread(target=run, name="turn-log", daemon=True).start()
        await opened

    def write(self, batch: Batch) -> None:
        """Has a batch written; never waits."""
        self._work.put(batch)

    async def ask(self, question: Callable[[LogFile], T]) -> T:
        """What the file says, all that was given to `write` before included.

        Raises:
            UnavailableError: it says nothing.
        """
        if self._leaving:
            raise UnavailableError("the turn log is closed: the service stops", reason="TURN_LOG_UNAVAILABLE")
        answer: asyncio.Future[T] = self._loop.create_future()

        def look(file: LogFile) -> None:
            try:
                said = question(file)
            except Exception:  # noqa: BLE001  # as of `_write`
                error = UnavailableError("the turn log cannot be used", reason="TURN_LOG_UNAVAILABLE")
                self._tell(_fail, answer, error)
            else:
                self._tell(_resolve, answer, said)

        self._work.put(look)
        return await answer

    async def leave(self) -> None:
        """Returns when all is done and the file is closed."""
        self._leaving = True
        self._work.put(_QUIT)
        await self._left

    # In the thread

    def _run(self, open_file: Callable[[], LogFile], opened: asyncio.Future[None]) -> None:
        try:
            file = open_file()
        except LogFileError as error:
            self._tell(_fail, opened, error)
            return
        self._tell(_resolve, opened, None)
        sweep = time.monotonic() + SWEEP_SECONDS
        while self._work_on(file, sweep):
            if time.monotonic() >= sweep:
                sweep = time.monotonic() + SWEEP_SECONDS
                with suppress(sqlite3.Error):  # what cannot be deleted now can be the next time
                    file.expire()
        file.close()
        self._tell(_resolve, self._left, None)

    def _work_on(self, file: LogFile, until: float) -> bool:
        """Does what there is to do, or waits for it that long; whether to go on."""
        batch, then = self._gathered(until)
        if batch:
            self._write(file, batch)
        if callable(then):
            then(file)
        return then is not _QUIT

    def _gathered(self, until: float) -> tuple[Batch, Batch | Question | None]:
        """All batches that wait as one, and what comes after them; waits that long for the first thing to do."""
        batch = Batch()
        with suppress(queue.Empty):
            work = self._work.get(timeout=max(0.0, until - time.monotonic()))
            while isinstance(work, Batch):
                batch.add(work)
                work = self._work.get_nowait()
            return batch, work
        return batch, batch

    def _write(self, file: LogFile, batch: Batch) -> None:
        error = ""
        try:
            file.write(batch)
        except Exception as failure:  # noqa: BLE001  # not even a defect may end the thread that all turns need
            error = getattr(failure, "sqlite_errorname", type(failure).__name__)
        self._tell(self._written, batch, error)

    def _tell(self, what: Callable[[Unpack[Args]], None], *args: *Args) -> None:
        # A loop that was closed without leaving hears nothing any more.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(what, *args)


def _resolve(future: asyncio.Future[T], result: T) -> None:
    if not future.done():  # who asked may have been cancelled
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:  # Any: there is no result
    if not future.done():
        future.set_exception(error)
