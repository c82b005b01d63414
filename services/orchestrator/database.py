"""SQLite files of one process alone, in which what is deleted is overwritten; or a database in its memory."""

import os
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

IN_MEMORY: Final = Path(":memory:")
"""In place of a file: the memory of this process, and no file at all."""


class DatabaseError(Exception):
    """A file cannot be used; the message says which, why, and what to do.

    Attributes:
        what: What the file is, in messages.
    """

    what = "the database"


def open_database(path: Path | None, tables: Sequence[str], error: type[DatabaseError]) -> sqlite3.Connection:
    """Opens or makes a file. Use it in the thread that opens it, or never in two at once.

    Args:
        path: Where it is; None: in a temporary file that goes with the process; or `IN_MEMORY`.
        tables: The tables as statements, and what each version added to them.
        error: What is raised when it cannot be used.
    """
    with explained(path, error):
        db = _connect(path)
        _prepare(db, path, tables, error)
        return db


def is_memory(place: str) -> bool:
    """Whether a setting names the memory of the process; in SQLite's own words, too, which no file is meant by."""
    return place in {"memory:", str(IN_MEMORY)}


@contextmanager
def explained(path: Path | None, error: type[DatabaseError]) -> Generator[None]:
    """Around the opening of a file: what is wrong with it is this error."""
    file = f"{error.what} {path}"
    try:
        yield
    except sqlite3.OperationalError as failure:
        if failure.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise error(f"{file} is in use by another process: give each orchestrator a file of its own") from None
        raise error(f"{file} cannot be used: {failure}") from None
    except sqlite3.DatabaseError as failure:
        raise error(f"{file} cannot be used: {failure}; name another file, or move it away") from None
    except OSError as failure:
        raise error(f"{file} cannot be opened: {failure.strerror}") from None


def shrink(db: sqlite3.Connection) -> None:
    """Takes what was deleted out of the files, the write-ahead log included."""
    db.execute("PRAGMA incremental_vacuum")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _connect(path: Path | None) -> sqlite3.Connection:
    if path is None:
        return sqlite3.connect("", check_same_thread=False)
    if path == IN_MEMORY:
        db = sqlite3.connect(path, check_same_thread=False)
        db.execute("PRAGMA temp_store = MEMORY")  # what is sorted would lie in a file otherwise
        return db
    # What people and models said is for nobody else's eyes; SQLite gives its other files the same mode.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    return sqlite3.connect(path, timeout=0, check_same_thread=False)


def _prepare(db: sqlite3.Connection, path: Path | None, tables: Sequence[str], error: type[DatabaseError]) -> None:
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    # Alone: two processes on one file could not wake one another's readers.
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("PRAGMA secure_delete = ON")
    version = len(tables)
    (found,) = db.execute("PRAGMA user_version").fetchone()
    if not 0 <= found <= version:
        raise error(
            f"{error.what} {path} is of version {found}, expected {version}: move it away, or name another file"
        )
    if found < version:
        missing = "".join(tables[found:])
        db.executescript(f"BEGIN; {missing} PRAGMA user_version = {version}; COMMIT;")
