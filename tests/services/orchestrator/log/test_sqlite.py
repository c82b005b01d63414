"""What is special about the turn log in an SQLite file."""

import asyncio
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from services.orchestrator.log.file import LogFile, LogFileError, Page
from services.orchestrator.log.sqlite import GATHER_SECONDS, open_sqlite
from services.orchestrator.log.turn_log import Owner
from shieldmesh.errors import DataLossError

from .test_turn_log import read_into

OWNER = Owner("", "s")
TEXT = b"something that a model said"


async def test_one_file_has_one_process(tmp_path: Path) -> None:
    """A second one hears which file is in use, and what to do."""
    path = tmp_path / "turns.db"
    async with open_sqlite(path, retention=1.0, backlog=1):
        with pytest.raises(LogFileError, match=r"turns.db is in use by another process: give each"):
            async with open_sqlite(path, retention=1.0, backlog=1):
                pass
    async with open_sqlite(path, retention=1.0, backlog=1):
        pass


def _garbage(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)


def _directory(path: Path) -> None:
    path.mkdir()


def _of_another_version(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_of_another_version, "of version 99, expected 2"),
        (_garbage, "file is not a database"),
        (_directory, "cannot be opened: Is a directory"),
    ],
    ids=["version", "garbage", "directory"],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, make: Callable[[Path], None], says: str) -> None:
    """What is wrong is said with the file's name, and the file stays as it is."""
    path = tmp_path / "turns.db"
    make(path)
    with pytest.raises(LogFileError, match=f"turns.db .*{says}"):
        LogFile(path, 1.0)


async def test_files_of_earlier_versions_are_brought_up(tmp_path: Path) -> None:
    """A file from before there were claims keeps its turns and takes claims."""
    path = tmp_path / "turns.db"
    async with open_sqlite(path, retention=60.0, backlog=1_000) as log:
        log.begin("t", OWNER)
        log.append("t", 1, TEXT)
        log.seal("t")
    with sqlite3.connect(path) as db:
        db.executescript("DROP TABLE claims; PRAGMA user_version = 1")
    db.close()
    for _ in range(2):
        async with open_sqlite(path, retention=60.0, backlog=1_000) as log:
            assert [event async for event in log.follow("t", 0)] == [TEXT]
            assert (await log.claim("key", "t", b"")).turn == "t"


async def test_what_is_deleted_of_claims(tmp_path: Path) -> None:
    """Claims whose time is over are deleted with the turns."""
    path = tmp_path / "turns.db"
    async with open_sqlite(path, retention=60.0, backlog=1, claim_window=0.0) as log:
        await log.claim("key", "t", b"")
        await asyncio.sleep(0.001)
        await log.expire()
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM claims").fetchone() == (0,)
    db.close()


async def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    """All files of the log are for their user alone."""
    async with open_sqlite(tmp_path / "turns.db", retention=1.0, backlog=1) as log:
        log.begin("t", OWNER)
        await log.find("t")
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in files(tmp_path)}
    assert modes == dict.fromkeys(["turns.db", "turns.db-wal"], 0o600)


async def test_what_is_deleted_is_gone(tmp_path: Path) -> None:
    """No byte of a turn whose time is over is left on the disk."""
    async with open_sqlite(tmp_path / "turns.db", retention=0.0, backlog=1_000_000) as log:
        log.begin("t", OWNER)
        for number in range(1, 1000):
            log.append("t", number, TEXT)
        log.seal("t")
        assert await log.find("t") is not None
        assert any(TEXT in path.read_bytes() for path in files(tmp_path))
        while await log.find("t") is not None:
            await log.expire()
            await asyncio.sleep(0.001)
        assert not any(TEXT in path.read_bytes() for path in files(tmp_path))


async def test_what_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn whose events the disk refuses ends with an error for its readers; others and later ones are well."""
    async with asyncio.timeout(20), open_sqlite(tmp_path / "turns.db", retention=60.0, backlog=10) as log:
        log.begin("well", OWNER)
        log.begin("ill", OWNER)
        log.append("ill", 1, TEXT)
        await log.find("ill")
        following = log.follow("ill", 0)
        assert await anext(following) == TEXT
        waiting = asyncio.ensure_future(anext(following))
        with monkeypatch.context() as broken:
            broken.setattr(LogFile, "_expiry", _disk_full)
            log.append("ill", 2, TEXT)
            await log.room()
            with pytest.raises(DataLossError):
                await waiting
        log.append("ill", 3, TEXT)
        log.seal("ill")
        log.append("well", 1, TEXT)
        log.seal("well")
        assert [event async for event in log.follow("well", 0)] == [TEXT]
        with pytest.raises(DataLossError):
            await anext(log.follow("ill", 1))


async def test_who_waits_asks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that has all there is looks again when its turn has news, and not before."""
    looks: list[str] = []
    page = LogFile.page

    def counted(file: LogFile, turn: str, after: int) -> Page:
        looks.append(turn)
        return page(file, turn, after)

    monkeypatch.setattr(LogFile, "page", counted)
    async with asyncio.timeout(20), open_sqlite(tmp_path / "turns.db", retention=60.0, backlog=10) as log:
        log.begin("t", OWNER)
        following = log.follow("t", 0)
        first = asyncio.ensure_future(anext(following))
        await log.find("t")
        log.append("t", 1, TEXT)
        assert await first == TEXT
        waiting = asyncio.ensure_future(anext(following))
        await log.find("t")
        await log.find("t")
        before = len(looks)
        for number in range(1, 20):
            log.append("other", number, TEXT)
            await log.find("t")
        assert len(looks) == before
        log.append("t", 2, TEXT)
        assert await waiting == TEXT


WRITER = """
import asyncio, sys, time
from pathlib import Path
from services.orchestrator.log.sqlite import open_sqlite
from services.orchestrator.log.turn_log import Owner

async def main():
    async with open_sqlite(Path(sys.argv[1]), retention=60.0, backlog=1_000_000) as log:
        log.begin("t", Owner("", "s"))
        for sequence in range(1, 1_000_000):
            log.append("t", sequence, str(sequence).encode())
            print(sequence, time.monotonic(), flush=True)
            await asyncio.sleep(0.002)

asyncio.run(main())
"""
"""Says when it appended which event, by its own clock."""


async def test_what_a_killed_process_wrote_is_there(tmp_path: Path) -> None:
    """Killed in its middle, without any warning, a process leaves all that it appended some gatherings before."""
    path = tmp_path / "turns.db"
    due = _killed_while_it_writes(path)
    heard: list[bytes] = []
    async with asyncio.timeout(20), open_sqlite(path, retention=60.0, backlog=1_000_000) as log:
        with pytest.raises(DataLossError):
            await read_into(heard, log, "t", 0)
    assert len(heard) >= due > 1
    assert heard == [str(sequence).encode() for sequence in range(1, len(heard) + 1)]


def _killed_while_it_writes(path: Path) -> int:
    """The last event that the process appended well before it was killed."""
    marks: list[tuple[int, float]] = []
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:  # noqa: S603  # the command is ours
        assert writer.stdout is not None
        for line in writer.stdout:
            sequence, at = line.split()
            marks.append((int(sequence), float(at)))
            if marks[-1][1] - marks[0][1] > 40 * GATHER_SECONDS:
                break
        writer.kill()
    return max(sequence for sequence, at in marks if at < marks[-1][1] - 20 * GATHER_SECONDS)


def files(directory: Path) -> list[Path]:
    """What the directory holds."""
    return list(directory.iterdir())


def _disk_full(file: LogFile) -> float:
    del file
    raise sqlite3.OperationalError("database or disk is full")
