"""What keeps sessions, whatever it is made of."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from shieldmesh.errors import UnavailableError


@dataclass(frozen=True, slots=True)
class Key:
    """Names a session: the same id of two tenants names two."""

    tenant: str
    """Empty where nobody is authenticated."""
    session: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One turn that is kept."""

    number: int
    """Grows in the order in which the session's turns were kept."""
    body: bytes
    """A serialised `SessionTurn`."""


@dataclass(frozen=True, slots=True)
class About:
    """What is known of a session; times in seconds of the Unix epoch."""

    session: str
    created: float
    used: float
    expires: float
    turns: int


class SessionStore(Protocol):
    """Keeps turns of sessions, and the ids of all their turns, which deletion needs.

    Every method raises an UnavailableError (SESSIONS_UNAVAILABLE) when it cannot do its work.
    """

    async def open(self, key: Key, turn: str, retention: float) -> Sequence[Entry]:
        """Notes that a turn of the session begins, its first one or another; what is kept of it, oldest first.

        The session is kept for `retention` seconds from now on.
        """
        ...

    async def keep(self, key: Key, turn: str, body: bytes, *, drop: Collection[int], retention: float) -> bool:
        """Appends a turn that was opened, and drops those with these numbers, both or nothing.

        Returns:
            Whether it is kept; not so when the session was deleted meanwhile.
        """
        ...

    async def entries(self, key: Key) -> Sequence[Entry] | None:
        """What is kept of a session, oldest first; None where there is no such session."""
        ...

    async def about(self, key: Key) -> About | None:
        """What is known of a session; None where there is none."""
        ...

    async def sessions(self, tenant: str, after: str, most: int) -> Sequence[About]:
        """A tenant's next sessions behind an id, by id; nobody's (the tenant "") cannot be listed."""
        ...

    async def turns(self, key: Key) -> Sequence[str]:
        """The ids of all turns of a session that may still be in a turn log."""
        ...

    async def delete(self, key: Key) -> Sequence[str] | None:
        """Deletes a session with all that is kept of it; what `turns` gave until then, or None if there was none."""
        ...


REMEMBERED: Final = 86_400.0
"""Seconds, beyond the time that the turn log keeps turns, in which the id of a turn that began is remembered: longer
than any turn takes."""


def unavailable() -> UnavailableError:
    """What a store raises that cannot be read or written."""
    return UnavailableError("the sessions cannot be read or written", reason="SESSIONS_UNAVAILABLE")
