"""The turns in Redis, as everybody reads them: one stream each."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from services.orchestrator.redis_client import Client, Command, together

from . import redis_keys as keys
from .redis_asking import Asking
from .turn_log import Owner, lost, to_bytes

PAGE: Final = 256
"""Events that are read at a time."""


@dataclass(frozen=True, slots=True)
class Begun:
    """How a turn's stream begins."""

    writer: str
    """The process that writes it, with its epoch."""
    owner: Owner


@dataclass(frozen=True, slots=True)
class Page:
    """Some events of a turn."""

    events: list[tuple[int, bytes]]
    ending: bytes | None
    """How the turn ended; None while it runs or when more events follow."""
    full: bool
    """Whether more may be there already."""


class Streams:
    """All of these raise `FAILURES` when Redis does not answer."""

    def __init__(self, client: Client, asking: Asking, after_end: int) -> None:
        """`after_end`: milliseconds that a turn is kept after its end."""
        self._client = client
        self._asking = asking
        self._after_end = after_end

    async def begun(self, turn: str) -> Begun | None:
        """How it began; None when it is not there."""
        entries = await self._asking.ask("XRANGE", keys.stream(turn), keys.BEGIN, keys.BEGIN)
        for _, fields in entries:
            owner = Owner(fields[b"tenant"].decode(), fields[b"session"].decode())
            return Begun(fields[b"writer"].decode(), owner)
        return None

    async def ending(self, turn: str) -> bytes | None:
        """How it ended; None while it runs."""
        return _ending(await self._asking.ask("XRANGE", keys.stream(turn), keys.END, keys.END))

    async def page(self, turn: str, after: int) -> Page:
        """The next events of a turn, and its end if nothing follows them."""
        stream = keys.stream(turn)
        entries = await self._asking.ask("XRANGE", stream, f"{after + 1}-0", "+", "COUNT", PAGE)
        ending = _ending(entries[-1:])
        events = [
            (int(name.partition(b"-")[0]), fields[b"event"])
            for name, fields in (entries if ending is None else entries[:-1])
        ]
        return Page(events, ending, full=len(entries) == PAGE)

    async def lose(self, turns: Iterable[str]) -> None:
        """Ends turns whose writer is gone: nothing can be appended to them any more. Those that have ended stay so."""
        commands: list[Command] = []
        for turn in turns:
            stream = keys.stream(turn)
            commands.append(("XADD", stream, "NOMKSTREAM", keys.END, "lost", ""))
            commands.append(("PEXPIRE", stream, self._after_end))
            commands.append(("PUBLISH", keys.news(turn), ""))
        await together(self._client, commands)


def _ending(entries: list[tuple[bytes, dict[bytes, bytes]]]) -> bytes | None:
    for name, fields in entries:
        if name == keys.END.encode():
            return to_bytes(lost()) if b"lost" in fields else fields[b"end"]
    return None
