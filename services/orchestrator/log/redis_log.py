"""The turn log of many replicas: one stream in Redis or Valkey for each turn, which any of them can read.

```text
append ──▶ backlog ──▶ one round trip for all that gathered ──▶ those who follow here are woken
                             └─▶ a message for those who follow at other replicas ──▶ they read the stream
```

No reader polls, and no turn waits for Redis. docs/turns.md says what is promised, and docs/adr/0011 why it is built so.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from typing import Final

from services.orchestrator.redis_client import FAILURES, Client, Command, RedisPlace, RedisUnusableError, together
from shieldmesh import context
from shieldmesh.errors import MeshError, UnavailableError

from . import redis_keys as keys
from .backlog import Backlog
from .followers import Followers
from .redis_asking import Asking
from .redis_leases import Leases
from .redis_news import News
from .redis_streams import Streams
from .redis_writer import Writer
from .turn_log import CLAIM_WINDOW, Claim, Owner, Record, from_bytes, lost

LEASE: Final = 10.0
"""Seconds after which a process that is not heard of is presumed dead, where nobody says otherwise."""
_SHORTEST_RETENTION: Final = 1.0
"""Seconds that the end of a turn is there for those who follow it."""
_CALLS_SECONDS: Final = 3_600
"""How long a wish waits for the process that it is for."""
_CALLS_AT_ONCE: Final = 100
_STILL: Final = "?"
"""Before a turn in a wish: its writer shall see that it has an end if it writes it no more. Else: it shall stop."""


@asynccontextmanager
async def open_redis(
    place: RedisPlace, *, retention: float, backlog: int, claim_window: float = CLAIM_WINDOW, lease: float = LEASE
) -> AsyncGenerator["RedisLog"]:
    """A turn log in Redis; at the end of the block all is written.

    Args:
        place: Where Redis is.
        retention: Seconds that a turn is kept after its end, at least one.
        backlog: Bytes of events that may wait for Redis before turns wait, too.
        claim_window: Seconds that a key stands for its turn.
        lease: Seconds after which a process that is not heard of is presumed dead, and after which this one gives up
            what it cannot write.

    Raises:
        RedisUnusableError: Redis does not answer, or refuses.
    """
    async with AsyncExitStack() as stack:
        patient = await stack.enter_async_context(place.open(patience=lease))
        hasty = await stack.enter_async_context(place.open())
        log = RedisLog(patient, hasty, retention=retention, backlog=backlog, claim_window=claim_window, lease=lease)
        try:
            await log.open()
        except FAILURES as error:
            raise RedisUnusableError(
                f"the Redis at {place.shown} cannot be used: {type(error).__name__}: is it started, at this address, "
                "and does it let us in?"
            ) from None
        async with log.at_work():
            yield log


class RedisLog:
    """See `TurnLog` and `open_redis`. It belongs to the event loop that opened it."""

    def __init__(
        self, patient: Client, hasty: Client, *, retention: float, backlog: int, claim_window: float, lease: float
    ) -> None:
        """`patient` tries again what fails, `hasty` does not; see `open_redis`."""
        self._client = patient
        self._claim_window = claim_window
        self._lease = lease
        after_end = round(max(retention, _SHORTEST_RETENTION) * 1000)
        self._backlog = Backlog(backlog)
        self._followers = Followers()
        self._writer = Writer(hasty, self._backlog, lease=lease, after_end=after_end, tell=self._followers.tell)
        self._asking = Asking(patient)
        self._streams = Streams(patient, self._asking, after_end)
        self._leases = Leases(self._asking, self._streams, self._followers, lease=lease)
        self._called = asyncio.Event()
        own = keys.calls(self._writer.process)
        self._news = News(hasty, self._followers, own, self._called.set, silence=lease)
        self._stop: Callable[[str], object] = _nobody

    async def open(self) -> None:
        """Begins to be alive; raises `FAILURES`."""
        await self._writer.open()

    @asynccontextmanager
    async def at_work(self) -> AsyncGenerator[None]:
        """Reads, writes and hears inside the block; at its end all is written."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._leave)
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            nobodys = context.detached()  # it is done for all turns, and must not be done in the context of one
            loops = (
                *(self._writer.run(), self._asking.run(), self._leases.run()),
                *(self._news.run(), self._news.keep(), self._hear_calls()),
            )
            work = [tasks.create_task(loop, context=nobodys) for loop in loops]
            try:
                yield
                await self._writer.close()
            finally:
                await _end(work)

    def begin(self, turn: str, owner: Owner) -> None:
        """See `TurnLog`."""
        self._writer.begin(turn, owner)

    def append(self, turn: str, sequence: int, event: bytes) -> None:
        """See `TurnLog`."""
        self._writer.append(turn, sequence, event)

    def seal(self, turn: str, error: MeshError | None = None) -> None:
        """See `TurnLog`."""
        self._writer.seal(turn, error)

    async def room(self) -> None:
        """See `TurnLog`."""
        await self._backlog.room()

    async def find(self, turn: str) -> Record | None:
        """See `TurnLog`."""
        await self._writer.settle(turn)
        with _told():
            begun = await self._streams.begun(turn)
            if begun is None:
                return None
            ending = await self._streams.ending(turn)
            if ending is None and turn not in self._writer and await self._leases.gone(begun.writer):
                await self._streams.lose([turn])
                ending = await self._streams.ending(turn)
        error = None if ending is None else from_bytes(ending)
        return Record(begun.owner, sealed=ending is not None, error=error)

    async def follow(self, turn: str, after: int, *, live: bool = True) -> AsyncGenerator[bytes]:
        """See `TurnLog`."""
        if not live:
            await self._writer.settle(turn)
        with ExitStack() as stack:
            news = stack.enter_context(self._followers.following(turn))
            abroad = ending = None
            while ending is None:
                news.clear()
                with _told():
                    page = await self._streams.page(turn, after)
                for sequence, event in page.events:
                    if sequence != after + 1:
                        raise lost()
                    after = sequence
                    yield event
                ending = page.ending
                if ending is not None or page.full:
                    continue
                if not live:
                    return
                if turn not in self._writer and not (abroad and page.events):
                    abroad = await self._look_abroad(turn, stack, abroad)
                await news.wait()
        error = from_bytes(ending)
        if error is not None:
            raise error

    async def followed(self, turn: str) -> bool:
        """See `TurnLog`."""
        with _told():
            _, processes = await self._asking.ask("PUBSUB", "NUMSUB", keys.news(turn))
        return int(processes) > 0  # this one does not subscribe to what it writes itself

    async def expire(self) -> int:
        """See `TurnLog`."""
        return 0  # Redis does it

    async def forget(self, turn: str) -> None:
        """See `TurnLog`."""
        await self._writer.settle(turn)
        with _told():
            await self._asking.ask("DEL", keys.stream(turn))

    async def claim(self, key: str, turn: str, digest: bytes) -> Claim:
        """See `TurnLog`."""
        ours = turn.encode() + b"\0" + digest
        name, window = keys.claim(key), max(1, round(self._claim_window * 1000))
        commands: tuple[Command, ...] = (("SET", name, ours, "PX", window, "NX"), ("GET", name))
        with _told():
            claimed, first = await together(self._client, commands, atomic=True)
            for answer in (claimed, first):
                if isinstance(answer, FAILURES):
                    raise answer
        turn_of_first, _, digest_of_first = first.partition(b"\0")
        return Claim(turn_of_first.decode(), digest_of_first)

    def listen(self, stop: Callable[[str], object]) -> None:
        """See `TurnLog`."""
        self._stop = stop

    async def ask_to_stop(self, turn: str) -> None:
        """See `TurnLog`."""
        if turn in self._writer:
            self._stop(turn)
            return
        with _told():
            begun = await self._streams.begun(turn)
            if begun is not None:
                await self._call(begun.writer, turn)

    async def _look_abroad(self, turn: str, stack: ExitStack, known: str | None) -> str:
        """Has a turn that is not written here looked after; its writer.

        Raises:
            DataLossError: it is not there any more.
        """
        with _told():
            begun = await self._streams.begun(turn)
            if begun is not None:
                await self._call(begun.writer, _STILL + turn)
        if begun is None:
            raise lost()
        if known is None:
            stack.enter_context(self._leases.watched(begun.writer, turn))
            stack.enter_context(self._news.heard(turn))
        return begun.writer

    async def _call(self, writer: str, wish: str) -> None:
        # In a list, for a process that does not hear us now.
        calls = keys.calls(writer.partition("/")[0])
        commands: tuple[Command, ...] = (
            ("RPUSH", calls, wish),
            ("EXPIRE", calls, _CALLS_SECONDS),
            ("PUBLISH", calls, ""),
        )
        await together(self._client, commands)

    async def _hear_calls(self) -> None:
        while True:
            await self._called.wait()
            self._called.clear()
            with suppress(*FAILURES):  # when Redis is there again, so is the channel, which calls once more
                while wishes := await self._asking.ask("LPOP", keys.calls(self._writer.process), _CALLS_AT_ONCE):
                    for wish in wishes:
                        await self._heed(wish.decode())

    async def _heed(self, wish: str) -> None:
        turn = wish.removeprefix(_STILL)
        if turn == wish:
            self._stop(turn)
        elif turn not in self._writer:
            # Its end was written, and Redis has lost it.
            await self._streams.lose([turn])

    async def _leave(self) -> None:
        with suppress(*FAILURES):
            await self._writer.leave()


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    # More than once: redis-py waits with `wait_for`, which can swallow a cancellation before Python 3.12.
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=0.05)


@contextmanager
def _told() -> Generator[None]:
    try:
        yield
    except FAILURES:
        raise UnavailableError("the turn log cannot be used", reason="TURN_LOG_UNAVAILABLE") from None


def _nobody(turn: str) -> None:
    """Listens until somebody does."""
    del turn
