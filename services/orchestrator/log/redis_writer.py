"""Writes the turns of this process to Redis: all that gathered while the last write was under way, in one round trip.

What Redis has not acknowledged stays here and is written again; `redis_append.lua` sees that nothing comes twice. When
Redis could not be written to for as long as the lease, what waits is given up: the writer goes on under its next epoch,
and whoever follows a turn of an earlier one sees that nobody writes it any more.
"""

import asyncio
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog
from redis.exceptions import NoScriptError

from services.orchestrator.redis_client import FAILURES, Client, Command, together
from shieldmesh.context import new_id
from shieldmesh.errors import MeshError
from shieldmesh.metrics import instruments
from shieldmesh.telemetry import Name

from . import redis_keys as keys
from .backlog import Backlog
from .turn_log import Owner, lost, to_bytes

RUNNING_SECONDS: Final = 86_400
"""How long Redis keeps a turn to which nothing is appended, not even its end."""
AT_ONCE: Final = 1_000
"""Events of a turn in one write."""
_SCRIPT: Final = Path(__file__).with_name("redis_append.lua")
_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 0.5

_log = structlog.stdlib.get_logger("shieldmesh.turn_log")


@dataclass(slots=True)
class _Turn:
    """A turn whose end Redis does not have yet."""

    owner: Owner
    begun: bool = False
    """Whether Redis has it."""
    kept: int = 0
    """The last event that Redis has."""
    waiting: list[bytes] = field(default_factory=list[bytes])
    ending: bytes | None = None

    @property
    def last(self) -> int:
        return self.kept + len(self.waiting)

    @property
    def settled(self) -> bool:
        return self.begun and not self.waiting and self.ending is None


@dataclass(frozen=True, slots=True)
class _Write:
    """What one round writes of a turn."""

    turn: str
    state: _Turn
    count: int
    ends: bool


class Writer:
    """Who writes the turns of this process.

    Attributes:
        process: This process: no other ever bears its name.
    """

    def __init__(
        self, client: Client, backlog: Backlog, *, lease: float, after_end: int, tell: Callable[[Set[str]], None]
    ) -> None:
        """Writes when `run` runs.

        Args:
            client: One that tries nothing twice.
            backlog: Counts what waits.
            lease: Seconds after which a process that is not heard of is presumed dead.
            after_end: Milliseconds that a turn is kept after its end.
            tell: Called with turns that have news for those who follow them here.
        """
        self.process = new_id()
        self._epoch = 1
        self._client = client
        self._backlog = backlog
        self._lease = lease
        self._after_end = after_end
        self._tell = tell
        self._script = ""
        self._turns: dict[str, _Turn] = {}
        self._unsettled: dict[str, None] = {}
        self._work = asyncio.Event()
        self._round_over = asyncio.Event()
        self._failing_since: float | None = None
        self._beat_due = True
        self._next_beat: asyncio.TimerHandle | None = None

    def __contains__(self, turn: str) -> bool:
        """Whether it writes the turn now."""
        return turn in self._turns

    def begin(self, turn: str, owner: Owner) -> None:
        """See `TurnLog`."""
        self._turns[turn] = _Turn(owner)
        self._write(turn)

    def append(self, turn: str, sequence: int, event: bytes) -> None:
        """See `TurnLog`."""
        state = self._turns.get(turn)
        if state is None or state.ending is not None:
            return
        if sequence == state.last + 1:
            state.waiting.append(event)
            self._backlog.add(len(event))
        else:
            state.ending = to_bytes(lost())
        self._write(turn)

    def seal(self, turn: str, error: MeshError | None = None) -> None:
        """See `TurnLog`."""
        state = self._turns.get(turn)
        if state is not None and state.ending is None:
            state.ending = to_bytes(error)
            self._write(turn)

    async def settle(self, turn: str) -> None:
        """Returns when what was written of a turn before is kept, or given up."""
        state = self._turns.get(turn)
        if state is None:
            return
        last, ended = state.last, state.ending is not None
        while self._turns.get(turn) is state and (ended or not state.begun or state.kept < last):
            await self._round_over.wait()

    async def open(self) -> None:
        """Begins to be alive.

        Raises:
            FAILURES: Redis does not answer, or is none.
        """
        self._script = await self._client.script_load(_SCRIPT.read_text(encoding="utf-8"))
        await self._round()

    async def run(self) -> None:
        """Writes what is to be written, for ever."""
        pause = _FIRST_PAUSE
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                await self._round()
            except NoScriptError:  # Redis was started again
                self._work.set()
                self._script = ""
            except FAILURES as error:
                self._failed(error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                self._work.set()
            else:
                self._failing_since, pause = None, _FIRST_PAUSE

    async def close(self) -> None:
        """Returns when all is written, or given up after the time of the lease; `run` must run."""
        try:
            async with asyncio.timeout(self._lease):
                while self._unsettled:
                    await self._round_over.wait()
        except TimeoutError:
            self._give_up()

    async def leave(self) -> None:
        """Lets everybody know that this process writes no more; `run` must have ended."""
        if self._next_beat is not None:
            self._next_beat.cancel()
        await self._client.delete(keys.lease(self.process), keys.calls(self.process))

    def _write(self, turn: str) -> None:
        self._unsettled[turn] = None
        self._work.set()

    async def _round(self) -> None:
        """Writes what waits.

        Raises:
            FAILURES: not all of it is kept.
        """
        if not self._script:
            self._script = await self._client.script_load(_SCRIPT.read_text(encoding="utf-8"))
        beats = self._beat_due
        lease = ("SET", keys.lease(self.process), self._epoch, "PX", round(self._lease * 1000))
        writes = [self._prepared(turn, self._turns[turn]) for turn in self._unsettled]
        commands: list[Command] = [("EVALSHA", self._script, 1, *self._arguments(write)) for write in writes]
        answers = await together(self._client, [lease, *commands] if beats else commands)
        failures = [answer for answer in answers if isinstance(answer, FAILURES)]
        if beats and not isinstance(answers.pop(0), FAILURES):
            self._beat_due = False
            self._next_beat = asyncio.get_running_loop().call_later(self._lease / 3, self._beat)
        for write, answer in zip(writes, answers, strict=True):
            if not isinstance(answer, FAILURES) and self._turns.get(write.turn) is write.state:
                self._answered(write, kept=answer == b"kept")
        self._end_round({write.turn for write in writes})
        if failures:
            raise failures[0]

    def _prepared(self, turn: str, state: _Turn) -> _Write:
        count = min(len(state.waiting), AT_ONCE)
        return _Write(turn, state, count, ends=state.ending is not None and count == len(state.waiting))

    def _arguments(self, write: _Write) -> Iterable[str | int | bytes]:
        """What `redis_append.lua` takes."""
        state = write.state
        yield keys.stream(write.turn)
        yield f"{self.process}/{self._epoch}"
        yield state.owner.tenant
        yield state.owner.session
        yield int(state.begun)
        yield state.kept + 1
        yield keys.news(write.turn)
        yield RUNNING_SECONDS * 1000
        yield self._after_end
        yield int(write.ends)
        yield state.ending or b""
        yield from state.waiting[: write.count]

    def _answered(self, write: _Write, *, kept: bool) -> None:
        turn, state = write.turn, write.state
        if not kept:
            _log.error("a turn is not kept any more: Redis has lost some of it, or others say it is over")
            instruments().log_lost.add(1)
            self._forget(turn, state)
            return
        instruments().log_events.add(write.count)
        self._backlog.done(sum(map(len, state.waiting[: write.count])))
        del state.waiting[: write.count]
        state.begun = True
        state.kept += write.count
        if write.ends:
            self._forget(turn, state)
        elif state.settled:
            del self._unsettled[turn]
        else:
            self._work.set()

    def _forget(self, turn: str, state: _Turn) -> None:
        self._backlog.done(sum(map(len, state.waiting)))
        self._turns.pop(turn)
        self._unsettled.pop(turn, None)

    def _failed(self, error: Exception) -> None:
        now = asyncio.get_running_loop().time()
        instruments().log_failures.add(1, {Name.ERROR_TYPE: type(error).__name__})
        instruments().log_waiting.set(self._backlog.size)
        if self._failing_since is None:
            self._failing_since = now
            _log.warning("the turn log cannot be written, and is tried again", error=type(error).__name__)
        elif now - self._failing_since >= self._lease:
            self._give_up()

    def _give_up(self) -> None:
        given_up = dict(self._turns)
        if given_up:
            _log.error("turns are not kept any more: the turn log cannot be written", turns=len(given_up))
            instruments().log_lost.add(len(given_up))
        for turn, state in given_up.items():
            self._forget(turn, state)
        self._epoch += 1
        self._beat_due = True
        self._end_round(given_up.keys())

    def _end_round(self, turns: Set[str]) -> None:
        instruments().log_waiting.set(self._backlog.size)
        self._tell(turns)
        self._round_over.set()
        self._round_over = asyncio.Event()

    def _beat(self) -> None:
        self._beat_due = True
        self._work.set()
