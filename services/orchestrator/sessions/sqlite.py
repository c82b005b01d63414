"""The sessions of one machine: an SQLite file, which outlives the process, or a database in its memory."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from services.orchestrator.database import IN_MEMORY, DatabaseError, open_database, shrink
from shieldmesh import context

from .store import About, Entry, Key, unavailable

T = TypeVar("T")

SWEEP_SECONDS: Final = 60.0
"""How often sessions whose time is over are deleted."""
MEMORY: Final = 67_108_864
"""Bytes that sessions in memory take at most where nobody says otherwise."""
_FORGOTTEN_AT_ONCE: Final = 16

_TABLES: Final = (
    """
CREATE TABLE sessions (
  number INTEGER PRIMARY KEY,
  tenant TEXT NOT NULL,
  id TEXT NOT NULL,
  created REAL NOT NULL,  -- seconds of the Unix epoch, like all times
  used REAL NOT NULL,
  expires REAL NOT NULL,
  UNIQUE (tenant, id)
);
CREATE INDEX sessions_by_expiry ON sessions (expires);
CREATE TABLE turns (
  session INTEGER NOT NULL REFERENCES sessions ON DELETE CASCADE,
  id TEXT NOT NULL,
  begun REAL NOT NULL,
  number INTEGER,  -- NULL unless it is kept
  body BLOB,
  PRIMARY KEY (session, id)
) WITHOUT ROWID;
""",
)


class SessionsFileError(DatabaseError):
    """The file cannot be used; the message says which, why, and what to do."""

    what = "the file of the sessions"


@asynccontextmanager
async def open_sqlite(
    path: Path | None, *, remembered: float, memory: int = MEMORY
) -> AsyncGenerator["SqliteSessions"]:
    """The sessions in a file.

    Args:
        path: The file, which is made if there is none; None: a temporary one that goes with the process; `IN_MEMORY`:
            none, but the memory of the process.
        remembered: Seconds in which the ids of turns are needed that began and are not kept.
        memory: Bytes that sessions in memory take; when that is full, those are forgotten that would expire first.

    Raises:
        SessionsFileError: the file cannot be used.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="sessions") as thread:
        loop = asyncio.get_running_loop()
        file = await loop.run_in_executor(thread, _File, path, remembered, memory)
        store = SqliteSessions(file, thread)
        store.sweep()
        try:
            yield store
        finally:
            store.close()
            await loop.run_in_executor(thread, file.close)


class SqliteSessions:
    """See `SessionStore` and `open_sqlite`."""

    def __init__(self, file: "_File", thread: ThreadPoolExecutor) -> None:
        """`thread` is the only one that uses the file."""
        self._file = file
        self._thread = thread
        self._loop = asyncio.get_running_loop()
        self._closing = threading.Event()

    async def open(self, key: Key, turn: str, retention: float) -> Sequence[Entry]:
        """See `SessionStore`."""
        return await self._do(partial(self._file.open, key, turn, retention))

    async def keep(self, key: Key, turn: str, body: bytes, *, drop: Collection[int], retention: float) -> bool:
        """See `SessionStore`."""
        return await self._do(partial(self._file.keep, key, turn, body, drop, retention))

    async def entries(self, key: Key) -> Sequence[Entry] | None:
        """See `SessionStore`."""
        return await self._do(partial(self._file.entries, key))

    async def about(self, key: Key) -> About | None:
        """See `SessionStore`."""
        return await self._do(partial(self._file.about, key))

    async def sessions(self, tenant: str, after: str, most: int) -> Sequence[About]:
        """See `SessionStore`."""
        return await self._do(partial(self._file.sessions, tenant, after, most))

    async def turns(self, key: Key) -> Sequence[str]:
        """See `SessionStore`."""
        return await self._do(partial(self._file.turns, key))

    async def delete(self, key: Key) -> Sequence[str] | None:
        """See `SessionStore`."""
        return await self._do(partial(self._file.delete, key))

    def sweep(self) -> None:
        """Deletes sessions whose time is over, now and from time to time; what cannot be can be the next time."""
        self._thread.submit(self._file.expire)
        # Not by the loop's clock: a timer that is always there keeps the loop from letting go of those of turns.
        threading.Thread(
            target=context.detached().run, args=(self._sweep_again,), name="sessions-sweep", daemon=True
        ).start()

    def close(self) -> None:
        """Sweeps no more."""
        self._closing.set()

    def _sweep_again(self) -> None:
        while not self._closing.wait(SWEEP_SECONDS):
            with suppress(RuntimeError):  # the thread has ended
                self._thread.submit(self._file.expire)

    async def _do(self, work: Callable[[], T]) -> T:
        try:
            return await self._loop.run_in_executor(self._thread, work)
        except (sqlite3.Error, RuntimeError):  # the file's, and that of a thread that has ended
            raise unavailable() from None


class _File:
    """The database. One thread uses it, not always the one that made it."""

    def __init__(self, path: Path | None, remembered: float, memory: int) -> None:
        self._remembered = remembered
        self._db = open_database(path, _TABLES, SessionsFileError)
        self._most_pages = memory // self._pragma("page_size") if path == IN_MEMORY else None

    def open(self, key: Key, turn: str, retention: float) -> list[Entry]:
        now = time.time()
        with self._db:
            # One whose time is over is not to be found again.
            self._db.execute("DELETE FROM sessions WHERE tenant = ? AND id = ? AND expires < ?", (*_names(key), now))
            self._db.execute(
                "INSERT INTO sessions (tenant, id, created, used, expires) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (tenant, id) DO UPDATE SET used = ?, expires = ?",
                (*_names(key), now, now, now + retention, now, now + retention),
            )
            session = self._number(key)
            self._db.execute("INSERT OR IGNORE INTO turns (session, id, begun) VALUES (?, ?, ?)", (session, turn, now))
            self._make_room(session)
            return self._entries(session)

    def keep(self, key: Key, turn: str, body: bytes, drop: Collection[int], retention: float) -> bool:
        now = time.time()
        with self._db:
            session = self._number(key)
            kept = self._db.execute(
                "UPDATE turns SET body = :body, "
                "number = (SELECT COALESCE(MAX(number), 0) + 1 FROM turns WHERE session = :session) "
                "WHERE session = :session AND id = :turn AND number IS NULL",
                {"body": body, "session": session, "turn": turn},
            ).rowcount
            if not kept:
                return False
            self._db.executemany(
                "UPDATE turns SET body = NULL, number = NULL WHERE session = ? AND number = ?",
                ((session, number) for number in drop),
            )
            self._db.execute(
                "DELETE FROM turns WHERE session = ? AND number IS NULL AND begun < ?",
                (session, now - self._remembered),
            )
            self._db.execute(
                "UPDATE sessions SET used = ?, expires = ? WHERE number = ?",
                (now, now + retention, session),
            )
            self._make_room(session)
        return True

    def entries(self, key: Key) -> list[Entry] | None:
        session = self._number(key)
        return None if session is None else self._entries(session)

    def about(self, key: Key) -> About | None:
        found = self._about("tenant = ? AND id = ? AND expires >= ? LIMIT ?", (*_names(key), time.time(), 1))
        return found[0] if found else None

    def sessions(self, tenant: str, after: str, most: int) -> list[About]:
        where = "tenant = ? AND id > ? AND expires >= ? ORDER BY id LIMIT ?"
        return self._about(where, (tenant, after, time.time(), most))

    def turns(self, key: Key) -> list[str]:
        rows = self._db.execute("SELECT id FROM turns WHERE session = ?", (self._number(key),))
        return [turn for (turn,) in rows]

    def delete(self, key: Key) -> list[str] | None:
        with self._db:
            turns = self.turns(key)
            rows = self._db.execute("DELETE FROM sessions WHERE tenant = ? AND id = ?", _names(key)).rowcount
        shrink(self._db)
        return turns if rows else None

    def expire(self) -> None:
        with self._db:
            self._db.execute("DELETE FROM sessions WHERE expires < ?", (time.time(),))
        shrink(self._db)

    def close(self) -> None:
        self._db.close()

    def _make_room(self, session: int | None) -> None:
        """Forgets other sessions than this one, those first that would expire first, until the memory holds all."""
        while self._most_pages is not None and self._pages() > self._most_pages:
            forgotten = self._db.execute(
                "DELETE FROM sessions WHERE number IN "
                "(SELECT number FROM sessions WHERE number != ? ORDER BY expires LIMIT ?)",
                (session, _FORGOTTEN_AT_ONCE),
            ).rowcount
            if not forgotten:
                return

    def _pages(self) -> int:
        """How many hold something."""
        return self._pragma("page_count") - self._pragma("freelist_count")

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])

    def _number(self, key: Key) -> int | None:
        where = "tenant = ? AND id = ? AND expires >= ?"
        row = self._db.execute(f"SELECT number FROM sessions WHERE {where}", (*_names(key), time.time())).fetchone()  # noqa: S608  # ours
        return None if row is None else int(row[0])

    def _entries(self, session: int | None) -> list[Entry]:
        rows = self._db.execute(
            "SELECT number, body FROM turns WHERE session = ? AND number IS NOT NULL ORDER BY number", (session,)
        )
        return [Entry(number, body) for number, body in rows]

    def _about(self, where: str, values: Sequence[object]) -> list[About]:
        rows = self._db.execute(
            "SELECT id, created, used, expires, "  # noqa: S608  # the conditions are those above
            "(SELECT COUNT(*) FROM turns WHERE session = sessions.number AND turns.number IS NOT NULL) "
            f"FROM sessions WHERE {where}",
            tuple(values),
        )
        return [About(*row) for row in rows]


def _names(key: Key) -> tuple[str, str]:
    return key.tenant, key.session
