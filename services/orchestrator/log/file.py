"""The turn log's file: an SQLite database, which one thread of one process reads and writes."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from services.orchestrator.database import DatabaseError, explained, open_database, shrink

from .turn_log import CLAIM_WINDOW, Claim, Owner, Record, from_bytes, lost, to_bytes

PAGE: Final = 256
"""Events that are read at a time."""

_TABLES: Final = (
    """
CREATE TABLE turns (
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  tenant TEXT NOT NULL,
  session TEXT NOT NULL,
  ending BLOB,  -- NULL while it runs
  expires REAL  -- seconds of the Unix epoch
);
CREATE INDEX turns_by_expiry ON turns (expires);
CREATE TABLE events (
  turn INTEGER NOT NULL REFERENCES turns ON DELETE CASCADE,
  sequence INTEGER NOT NULL,
  event BLOB NOT NULL,
  PRIMARY KEY (turn, sequence)
) WITHOUT ROWID;
""",
    """
CREATE TABLE claims (
  key TEXT PRIMARY KEY,
  turn TEXT NOT NULL,
  digest BLOB NOT NULL,
  expires REAL NOT NULL  -- seconds of the Unix epoch
) WITHOUT ROWID;
CREATE INDEX claims_by_expiry ON claims (expires);
""",
)
"""The tables, and what each version added to them."""


class LogFileError(DatabaseError):
    """The file cannot be used; the message says which, why, and what to do."""

    what = "the turn log"


@dataclass(slots=True)
class Batch:
    """What is written in one transaction."""

    begun: list[tuple[str, Owner]] = field(default_factory=list[tuple[str, Owner]])
    events: list[tuple[str, int, bytes]] = field(default_factory=list[tuple[str, int, bytes]])
    sealed: list[tuple[str, bytes]] = field(default_factory=list[tuple[str, bytes]])
    size: int = 0
    """Bytes of the events."""

    def __bool__(self) -> bool:
        return bool(self.begun or self.events or self.sealed)

    def turns(self) -> set[str]:
        """Those that something is said of."""
        return {entry[0] for entries in (self.begun, self.events, self.sealed) for entry in entries}

    def add(self, later: "Batch") -> None:
        """Appends what was written later."""
        self.begun += later.begun
        self.events += later.events
        self.sealed += later.sealed
        self.size += later.size


@dataclass(frozen=True, slots=True)
class Page:
    """Some events of a turn."""

    events: list[tuple[int, bytes]]
    ending: bytes | None
    """How the turn ended; None while it runs or when more events follow."""


class LogFile:
    """The database. Use it in the thread that made it."""

    def __init__(self, path: Path | None, retention: float, claim_window: float = CLAIM_WINDOW) -> None:
        """Opens or makes the file; turns that a process before left open are lost.

        Args:
            path: Where it is; None: in a temporary file that goes with the process.
            retention: Seconds that a turn is kept after its end.
            claim_window: Seconds that a key stands for its turn.

        Raises:
            LogFileError: it cannot be used.
        """
        self._retention = retention
        self._claim_window = claim_window
        self._numbers: dict[str, int] = {}
        """The turns that run, by id."""
        self._db = open_database(path, _TABLES, LogFileError)
        with explained(path, LogFileError), self._db:
            self._db.execute(
                "UPDATE turns SET ending = ?, expires = ? WHERE ending IS NULL", (to_bytes(lost()), self._expiry())
            )

    def write(self, batch: Batch) -> None:
        """Keeps the batch.

        Raises:
            sqlite3.Error: nothing of it is kept, and its turns are lost.
        """
        try:
            with self._db:
                self._begin(batch)
                numbers = self._numbers
                self._db.executemany(
                    "INSERT INTO events VALUES (?, ?, ?)",
                    ((numbers[turn], sequence, event) for turn, sequence, event in batch.events if turn in numbers),
                )
                expiry = self._expiry()
                self._db.executemany(
                    "UPDATE turns SET ending = ?, expires = ? WHERE number = ?",
                    ((ending, expiry, numbers[turn]) for turn, ending in batch.sealed if turn in numbers),
                )
        except BaseException:
            for turn in batch.turns():
                self._numbers.pop(turn, None)
            raise
        for turn, _ in batch.sealed:
            self._numbers.pop(turn, None)

    def find(self, turn: str) -> Record | None:
        """What is known of a turn."""
        row = self._db.execute("SELECT tenant, session, ending FROM turns WHERE id = ?", (turn,)).fetchone()
        if row is None:
            return None
        tenant, session, ending = row
        ending = self._ending(turn, ending)
        error = None if ending is None else from_bytes(ending)
        return Record(Owner(tenant, session), sealed=ending is not None, error=error)

    def page(self, turn: str, after: int) -> Page:
        """The next events of a turn, and its end if nothing follows them."""
        row = self._db.execute("SELECT number, ending FROM turns WHERE id = ?", (turn,)).fetchone()
        if row is None:
            return Page([], to_bytes(lost()))
        number, ending = row
        events = self._db.execute(
            "SELECT sequence, event FROM events WHERE turn = ? AND sequence > ? ORDER BY sequence LIMIT ?",
            (number, after, PAGE),
        ).fetchall()
        return Page(events, None if len(events) == PAGE else self._ending(turn, ending))

    def claim(self, key: str, turn: str, digest: bytes) -> Claim:
        """The claim on a key: this one, unless there is an earlier one whose time is not over."""
        now = time.time()
        with self._db:
            self._db.execute("DELETE FROM claims WHERE key = ? AND expires < ?", (key, now))
            self._db.execute(
                "INSERT OR IGNORE INTO claims VALUES (?, ?, ?, ?)", (key, turn, digest, now + self._claim_window)
            )
            return Claim(*self._db.execute("SELECT turn, digest FROM claims WHERE key = ?", (key,)).fetchone())

    def expire(self) -> int:
        """Deletes the turns whose time is over, so that nothing of them is left in the file; how many.

        Claims whose time is over go, too.
        """
        now = time.time()
        with self._db:
            deleted = self._db.execute("DELETE FROM turns WHERE expires < ?", (now,)).rowcount
            self._db.execute("DELETE FROM claims WHERE expires < ?", (now,))
        shrink(self._db)
        return deleted

    def forget(self, turn: str) -> None:
        """Deletes a turn, so that nothing of it is left in the file; what its writer says from now on is not kept."""
        self._numbers.pop(turn, None)
        with self._db:
            self._db.execute("DELETE FROM turns WHERE id = ?", (turn,))
        shrink(self._db)

    def close(self) -> None:
        """Closes the file; what was written is in it."""
        self._db.close()

    def _begin(self, batch: Batch) -> None:
        for turn, owner in batch.begun:
            inserted = self._db.execute(
                "INSERT OR IGNORE INTO turns (id, tenant, session) VALUES (?, ?, ?)",
                (turn, owner.tenant, owner.session),
            )
            # A turn that is kept already has had its writer: a second one must not mix its events in.
            if inserted.rowcount and inserted.lastrowid is not None:
                self._numbers[turn] = inserted.lastrowid

    def _ending(self, turn: str, ending: bytes | None) -> bytes | None:
        if ending is None and turn not in self._numbers:
            return to_bytes(lost())
        return ending

    def _expiry(self) -> float:
        return time.time() + self._retention
