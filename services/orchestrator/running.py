"""The turns that run in this process, apart from the calls that began them, and in step with the turn log.

```text
Turn.run() ──▶ outbox ──▶ numbered ──▶ the log's backlog ──▶ the caller
                                                         └─▶ nobody, when the caller is gone or reads nothing, and the
                                                             turn goes on
```
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager, suppress

from shieldmesh.errors import (
    CancelledCallError,
    DeadlineExceededError,
    FailedPreconditionError,
    MeshError,
    UnavailableError,
)
from shieldmesh.interceptors.errors import typed
from shieldmesh.v1 import chat_pb2

from .log.turn_log import LARGEST_SEQUENCE, Owner, TurnLog
from .readers import Readers
from .report import late
from .stalling import StallWatch, tell
from .turn import Turn
from .waiting import until_done


@asynccontextmanager
async def running_turns(log: TurnLog) -> AsyncGenerator["RunningTurns"]:
    """The turns that run inside the block; those that are left at its end are cut."""
    turns = RunningTurns(log)
    try:
        yield turns
    finally:
        await turns.cut()


class RunningTurns:
    """The turns of this process, by id.

    Attributes:
        log: Where their events are kept.
    """

    def __init__(self, log: TurnLog) -> None:
        self.log = log
        self._turns: dict[str, RunningTurn] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        log.listen(self._asked_to_stop)

    def __len__(self) -> int:
        return len(self._turns)

    def start(self, turn: Turn) -> "RunningTurn":
        """Runs a turn in a task of its own, in a copy of the current context.

        Raises:
            FailedPreconditionError: a turn with this id runs already.
        """
        name = turn.identity.request_id
        if name in self._turns:
            raise FailedPreconditionError("this turn runs already: resume it instead", reason="TURN_EXISTS")
        running = self._turns[name] = RunningTurn(turn, self.log, lambda: self._ended(name))
        self._idle.clear()
        return running

    async def stop(self, turn: str) -> None:
        """Ends a turn with what was released so far, wherever it runs; returns when nothing is generated any more.

        Raises:
            UnavailableError: it runs elsewhere, and the turn log cannot tell.
        """
        running = self._turns.get(turn)
        if running is not None:
            await running.stop()
            return
        await self.log.ask_to_stop(turn)
        try:
            async with aclosing(self.log.follow(turn, LARGEST_SEQUENCE)) as events:
                async for _ in events:
                    pass
        except MeshError:
            record = await self.log.find(turn)
            if record is not None and not record.sealed:
                raise

    def _asked_to_stop(self, turn: str) -> None:
        running = self._turns.get(turn)
        if running is not None:
            running.stop_soon()

    @asynccontextmanager
    async def following(self, turn: str) -> AsyncGenerator[None]:
        """Around the reading of a turn in the log: if it runs here, it does not want for readers meanwhile."""
        running = self._turns.get(turn)
        if running is None:
            yield
        else:
            async with running.followed():
                yield

    async def wait_idle(self) -> None:
        """Returns when no turn runs, with or without a caller."""
        await self._idle.wait()

    async def cut(self) -> None:
        """Ends the turns that still run; what they released is in the log's backlog then."""
        await asyncio.gather(*(turn.cut() for turn in self._turns.values()))

    def _ended(self, turn: str) -> None:
        self._turns.pop(turn, None)
        if not self._turns:
            self._idle.set()


class RunningTurn:
    """A turn at work. It ends by itself, for want of readers if its policy says so, or because somebody stops it."""

    def __init__(self, turn: Turn, log: TurnLog, ended: Callable[[], object]) -> None:
        """`ended` is called when its end is in the log's backlog."""
        self._turn = turn
        self._id = turn.identity.request_id
        self._log = log
        self._ended = ended
        self._sequence = 0
        self._sealed = False
        self._why: MeshError = CancelledCallError("the turn was cancelled", reason="TURN_CANCELLED")
        """Why the work was cancelled, if it was."""
        self._rest: asyncio.Task[None] | None = None
        log.begin(self._id, Owner(turn.identity.tenant_id, turn.identity.session_id))
        self._work = asyncio.create_task(turn.run())
        self._work.add_done_callback(lambda _: turn.close())
        self._readers = Readers(turn.patience, self._abandoned)
        self._search: asyncio.Task[None] | None = None

    async def events(self) -> AsyncGenerator[chat_pb2.ChatEvent]:
        """The turn's events, from `started` to `finished`, numbered, for the caller who began it.

        Close it: when the caller leaves before the end, the turn ends or goes on as its policy says. It goes on, too,
        while somebody follows it. A caller that reads nothing for long gets what it missed from the log.

        Raises:
            MeshError: a service that the turn needs failed, or its time is over.
        """
        watch = StallWatch(self._turn.stall.after, self._stalled)
        last = 0
        try:
            while self._rest is None:
                event = await self._next()
                if event is None:
                    return
                watch.gave()
                last = event.sequence
                yield event
                watch.taken()
            # It has stalled: what it did not take lies in the log.
            async with aclosing(self._log.follow(self._id, last)) as missed:
                async for serialised in missed:
                    yield chat_pb2.ChatEvent.FromString(serialised)
        finally:
            watch.close()
            if not self._sealed:
                await self._left()

    @asynccontextmanager
    async def followed(self) -> AsyncGenerator[None]:
        """Around the reading of the turn by somebody else than the caller who began it."""
        self._readers.join()
        try:
            yield
        finally:
            await self._leave()

    def when_done(self, tell: Callable[[], object]) -> None:
        """Calls `tell` when the turn's work is done, however it ended."""
        self._work.add_done_callback(lambda _: tell())

    async def stop(self) -> None:
        """Ends the turn with what was released so far; returns when nothing is generated any more."""
        self.stop_soon()
        await asyncio.wait([self._work])

    def stop_soon(self) -> None:
        """The same, without waiting."""
        self._turn.stop()

    async def cut(self) -> None:
        """Ends the turn in its middle, because the service stops."""
        self._why = UnavailableError("the service that ran the turn stops", reason="SERVICE_STOPPING")
        self._work.cancel()
        await until_done(self._work)
        if self._rest is not None:
            await until_done(self._rest)

    async def _next(self) -> chat_pb2.ChatEvent | None:
        """The next event, which the log has taken; None after the last. Who cancels this loses nothing.

        Raises:
            MeshError: the turn failed.
        """
        await self._log.room()
        event = await self._turn.take()
        if event is None:
            error = self._failure()
            self._seal(error)
            if error is not None:
                raise error
            return None
        self._sequence += 1
        event.sequence = self._sequence
        self._log.append(self._id, self._sequence, event.SerializeToString())
        return event

    def _stalled(self) -> None:
        """The caller has not taken the last event for as long as its profile allows."""
        stall = self._turn.stall
        tell(self._turn.identity.profile, stall, self._sequence)
        if stall.then == "pause":
            return
        if stall.then == "cancel":
            self._turn.stop()
        self._rest = asyncio.create_task(self._drain())

    async def _left(self) -> None:
        """The caller is gone before the end."""
        if self._turn.patience is not None and late():
            self._why = DeadlineExceededError("the deadline of the turn's caller passed")
            self._work.cancel()
        try:
            await self._leave()
        finally:
            self._go_on()

    async def _leave(self) -> None:
        """A reader is gone; if that ends the turn, returns when it has ended."""
        if not self._sealed:
            self._readers.leave()
            if self._work.cancelling():
                await until_done(self._work)

    def _abandoned(self) -> None:
        """Nobody here reads the turn. Where that may last a while, somebody may do so at another replica."""
        if self._turn.patience:
            self._search = asyncio.create_task(self._look_for_readers())
        else:
            self._work.cancel()

    async def _look_for_readers(self) -> None:
        try:
            followed = await self._log.followed(self._id)
        except UnavailableError:
            followed = True  # perhaps; the turn's deadline ends it in any case
        if followed or self._readers.present:
            self._readers.wait()
        else:
            self._work.cancel()

    def _go_on(self) -> None:
        if self._rest is not None:
            return
        if self._work.done() and self._work.cancelled():
            # What was on its way out is not released any more.
            self._seal(self._why)
        else:
            self._rest = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        """Takes what nobody waits for any more, for the log."""
        with suppress(MeshError):  # the log has it
            while await self._next() is not None:
                pass

    def _failure(self) -> MeshError | None:
        if self._work.cancelled():
            return self._why
        error = self._work.exception()
        return None if error is None else typed(error)

    def _seal(self, error: MeshError | None) -> None:
        self._sealed = True
        self._readers.forget()
        self._log.seal(self._id, error)
        self._ended()
