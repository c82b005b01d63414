"""What a turn log does, whatever it is made of."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from google.rpc import status_pb2

from shieldmesh import context, errors
from shieldmesh.errors import DataLossError, MeshError


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a turn is. Nobody else may learn that it exists."""

    tenant: str
    session: str

    def same_as(self, other: "Owner") -> bool:
        """Whether the other is the same tenant or, where there is none, the same session."""
        if self.tenant or other.tenant:
            return self.tenant == other.tenant
        return self.session == other.session


def owner() -> Owner:
    """Who makes the current call."""
    ours = context.current()
    return Owner(ours.tenant_id, ours.session_id)


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a turn beside its events."""

    owner: Owner
    sealed: bool
    """Whether it has ended; no event follows."""
    error: MeshError | None = None
    """How it failed; None while it runs, and when it ended well."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Which turn an idempotency key stands for."""

    turn: str
    digest: bytes
    """What the first one asked with the key, as it was given."""


class TurnLog(Protocol):
    """Keeps the events of turns, each exactly once and in order.

    Writing never waits: what is written stands in a backlog until it is kept. Who writes asks for `room` before, so
    that a log which falls behind slows its turns and loses nothing. One turn has one writer, which calls `begin`,
    `append` with the numbers 1, 2, 3 …, and `seal`. What cannot be kept costs a turn its log and never its client: its
    readers get a DataLossError.
    """

    def begin(self, turn: str, owner: Owner) -> None:
        """Takes up a new turn."""
        ...

    def append(self, turn: str, sequence: int, event: bytes) -> None:
        """Takes a serialised `ChatEvent`."""
        ...

    def seal(self, turn: str, error: MeshError | None = None) -> None:
        """Takes the turn's end: no event follows, and its time in the log begins to run."""
        ...

    async def room(self) -> None:
        """Returns when the backlog is within its limit."""
        ...

    async def find(self, turn: str) -> Record | None:
        """What is known of a turn; None for one that never was, or whose time is over."""
        ...

    def follow(self, turn: str, after: int, *, live: bool = True) -> AsyncGenerator[bytes]:
        """The events after the one with the number `after`: those that are kept, then the others as they come.

        Ends when the turn has ended well, or, if not `live`, after those that are kept.

        Raises:
            MeshError: the error with which the turn ended, after its last event.
            DataLossError: events that were released are not there any more.
        """
        ...

    async def followed(self, turn: str) -> bool:
        """Whether another process follows a turn that has its writer in this one.

        Raises:
            UnavailableError: nobody can tell.
        """
        ...

    async def expire(self) -> int:
        """Deletes the turns whose time is over, which logs also do by themselves; how many."""
        ...

    async def forget(self, turn: str) -> None:
        """Deletes a turn that has ended, so that nothing of it is left.

        Raises:
            UnavailableError: it cannot be deleted.
        """
        ...

    async def claim(self, key: str, turn: str, digest: bytes) -> Claim:
        """Binds a key to a turn for as long as the log's `claim_window`; of several who claim it, the first one wins.

        Args:
            key: The idempotency key, made one of its owner's alone; at most 512 bytes.
            turn: What it is to stand for.
            digest: What is asked with it, to tell another request with the same key.

        Returns:
            The claim of the first one, who may be somebody else. That one's turn may not have begun yet, and never
            will if its process dies in between.

        Raises:
            UnavailableError: nobody can tell.
        """
        ...

    def listen(self, stop: Callable[[str], object]) -> None:
        """Has `stop` called with each turn that somebody asks to stop and whose writer is in this process."""
        ...

    async def ask_to_stop(self, turn: str) -> None:
        """Tells the process that writes a turn to end it; returns at once. For turns that have ended it does nothing.

        Raises:
            UnavailableError: nobody can be told.
        """
        ...


CLAIM_WINDOW: Final = 86_400.0
"""Seconds that a key stands for its turn where nobody says otherwise."""

LARGEST_SEQUENCE: Final = 2**63 - 1
"""What turn logs can count to."""

FINISHED: Final = b""
"""The end of a turn that ended well, as logs keep it."""


def to_bytes(error: MeshError | None) -> bytes:
    """The end of a turn as logs keep it."""
    return FINISHED if error is None else errors.to_status(error).SerializeToString()


def from_bytes(end: bytes) -> MeshError | None:
    """How a turn failed; None for one that ended well."""
    return None if end == FINISHED else errors.from_status(status_pb2.Status.FromString(end))


def lost() -> DataLossError:
    """The end of a turn whose writer was gone, or could not keep it."""
    message = "the rest of the turn is lost: the service that ran it failed in its middle"
    return DataLossError(message, reason="TURN_LOST")
