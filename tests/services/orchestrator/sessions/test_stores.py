"""What every store of sessions does, on a real file, a real Redis and in memory."""

import asyncio
import secrets
import stat
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

from services.orchestrator.database import IN_MEMORY
from services.orchestrator.redis_client import RedisUnusableError, redis_place
from services.orchestrator.sessions.opening import beside, open_sessions
from services.orchestrator.sessions.redis import open_redis
from services.orchestrator.sessions.sqlite import SessionsFileError, open_sqlite
from services.orchestrator.sessions.store import Key, SessionStore
from shieldmesh.errors import UnavailableError
from tests.redis_server import RedisServer, redis_server

TIMEOUT = 60.0
KEY = Key("acme", "s-1")
DAY = 86_400.0


class Open(Protocol):
    """Opens a store of the kind under test: the same one each time."""

    def __call__(self, *, remembered: float = DAY) -> AbstractAsyncContextManager[SessionStore]: ...


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture(params=["sqlite", "redis", "memory"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    @asynccontextmanager
    async def opening(*, remembered: float = DAY) -> AsyncGenerator[SessionStore]:
        if request.param != "redis":
            path = IN_MEMORY if request.param == "memory" else tmp_path / "sessions.db"
            store: AbstractAsyncContextManager[SessionStore] = open_sqlite(path, remembered=remembered)
        else:
            store = open_redis(redis_place(running.url), remembered=remembered)
        async with asyncio.timeout(TIMEOUT), store as opened:
            yield opened

    if request.param == "redis":
        running: RedisServer = request.getfixturevalue("server")
        running.restart()
    return opening


async def kept(store: SessionStore, key: Key, turn: str, *drop: int, retention: float = DAY) -> bool:
    """Opens and keeps a turn whose body is its id."""
    await store.open(key, turn, retention)
    return await store.keep(key, turn, turn.encode(), drop=drop, retention=retention)


async def bodies(store: SessionStore, key: Key) -> list[bytes] | None:
    entries = await store.entries(key)
    return None if entries is None else [entry.body for entry in entries]


async def test_turns_are_kept_in_the_order_of_their_ends(open_store: Open) -> None:
    """Each turn sees what was kept when it began; of two at once the first to end comes first; all stays."""
    async with open_store() as store:
        assert await store.entries(KEY) is None
        assert not await store.open(KEY, "slow", DAY)
        assert not await store.open(KEY, "quick", DAY)
        assert await store.keep(KEY, "quick", b"quick", drop=(), retention=DAY)
        assert [entry.body for entry in await store.open(KEY, "third", DAY)] == [b"quick"]
        assert await store.keep(KEY, "slow", b"\x00slow\xff", drop=(), retention=DAY)
        assert await store.keep(KEY, "third", b"third", drop=(), retention=DAY)
        entries = await store.entries(KEY) or ()
        assert [entry.body for entry in entries] == [b"quick", b"\x00slow\xff", b"third"]
        assert [entry.number for entry in entries] == sorted({entry.number for entry in entries})


@pytest.mark.parametrize("open_store", ["sqlite", "redis"], indirect=True)
async def test_sessions_outlive_the_store_that_kept_them(open_store: Open) -> None:
    """Another process finds what was kept, in its order."""
    async with open_store() as store:
        for turn in ("b", "a", "c"):
            await kept(store, KEY, turn)
    async with open_store() as store:
        assert await bodies(store, KEY) == [b"b", b"a", b"c"]


async def test_what_does_not_fit_is_dropped_with_the_new_turn(open_store: Open) -> None:
    """Those that are dropped are gone, their ids stay known, and dropping twice does no harm."""
    async with open_store() as store:
        for name in ("a", "b", "c"):
            await kept(store, KEY, name)
        first, second, _ = await store.open(KEY, "d", DAY)
        assert await store.keep(KEY, "d", b"d", drop=[first.number, second.number], retention=DAY)
        assert await kept(store, KEY, "e", first.number)
        assert await bodies(store, KEY) == [b"c", b"d", b"e"]
        assert sorted(await store.turns(KEY)) == ["a", "b", "c", "d", "e"]
        about = await store.about(KEY)
        assert about is not None
        assert about.turns == 3


async def test_a_turn_is_kept_once(open_store: Open) -> None:
    """A turn that is opened or kept again, as clients that try again do, is still one."""
    async with open_store() as store:
        await kept(store, KEY, "a")
        await kept(store, KEY, "a")
        assert await bodies(store, KEY) == [b"a"]
        about = await store.about(KEY)
        assert about is not None
        assert about.turns == 1


async def test_a_session_that_was_deleted_takes_nothing(open_store: Open) -> None:
    """A turn that began before the deletion is not kept behind it; one that begins then begins anew."""
    async with open_store() as store:
        await kept(store, KEY, "a")
        await store.open(KEY, "b", DAY)
        assert sorted(await store.delete(KEY) or ()) == ["a", "b"]
        assert await store.delete(KEY) is None
        assert not await store.keep(KEY, "b", b"b", drop=(), retention=DAY)
        assert await store.about(KEY) is None
        assert await store.entries(KEY) is None
        assert not await store.turns(KEY)
        assert not await store.sessions("acme", "", 10)
        assert not await store.open(KEY, "c", DAY)
        assert not await store.keep(KEY, "b", b"b", drop=(), retention=DAY)
        assert await store.keep(KEY, "c", b"c", drop=(), retention=DAY)
        assert await bodies(store, KEY) == [b"c"]


async def test_tenants_never_see_one_another(open_store: Open) -> None:
    """The same id of two tenants, and of nobody, is three sessions; ids that look like parts of keys are just ids."""
    keys = [Key("acme", "s"), Key("other", "s"), Key("", "s"), Key("acme", "s:1"), Key("acme:s", "1"), Key("", "acme")]
    async with open_store() as store:
        for number, key in enumerate(keys):
            await kept(store, key, f"turn-{number}")
        for number, key in enumerate(keys):
            assert await bodies(store, key) == [f"turn-{number}".encode()]
        assert [about.session for about in await store.sessions("acme", "", 10)] == ["s", "s:1"]
        assert [about.session for about in await store.sessions("other", "", 10)] == ["s"]
        await store.delete(keys[0])
        assert await bodies(store, keys[1]) == [b"turn-1"]
        assert await bodies(store, keys[2]) == [b"turn-2"]


async def test_sessions_are_listed_by_id_in_pages(open_store: Open) -> None:
    """From any id on, each once, and as many as are asked for."""
    names = [f"session-{number:03d}" for number in range(120)]
    async with open_store() as store:
        await asyncio.gather(*(kept(store, Key("acme", name), "t") for name in reversed(names)))
        found: list[str] = []
        while page := await store.sessions("acme", found[-1] if found else "", 50):
            found += [about.session for about in page]
        assert found == names


async def test_time_is_what_the_newest_turn_says(open_store: Open) -> None:
    """A session is known with its times, and gone when they are over, whether it is looked for or listed."""
    async with open_store() as store:
        before = time.time()
        await kept(store, KEY, "a", retention=DAY)
        about = await store.about(KEY)
        assert about is not None
        assert before - 1 <= about.created <= about.used <= time.time() + 1
        assert about.expires == pytest.approx(about.used + DAY)
        await kept(store, KEY, "b", retention=0.2)
        async with asyncio.timeout(TIMEOUT):
            while await store.about(KEY) is not None:  # noqa: ASYNC110  # time alone ends it
                await asyncio.sleep(0.01)
        assert await store.entries(KEY) is None
        assert not await store.sessions("acme", "", 10)
        assert not await store.open(KEY, "c", DAY)
        assert not await store.keep(KEY, "a", b"a", drop=(), retention=DAY)


async def test_ids_that_nobody_needs_are_forgotten(open_store: Open) -> None:
    """Ids of turns that are not kept, and not in any turn log any more, do not pile up."""
    async with open_store(remembered=0.0) as store:
        for number in range(10):
            await store.open(KEY, f"blocked-{number}", DAY)
        await asyncio.sleep(0.01)
        await kept(store, KEY, "a")
        assert len(await store.turns(KEY)) <= 1


async def test_nothing_of_a_deleted_session_is_left_in_the_file(tmp_path: Path) -> None:
    """The bytes of what was kept, dropped or expired are in none of the files."""
    path = tmp_path / "sessions.db"
    secret = b"the quick brown fox " * 500
    async with open_sqlite(path, remembered=DAY) as store:
        for key in (KEY, Key("acme", "other")):
            for turn in ("a", "b"):
                await store.open(key, turn, DAY)
                await store.keep(key, turn, secret, drop=(), retention=DAY)
        assert _holds(tmp_path, b"quick brown")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        await store.delete(KEY)
        entries = await store.open(Key("acme", "other"), "c", DAY)
        drop = [entry.number for entry in entries]
        await store.keep(Key("acme", "other"), "c", b"harmless", drop=drop, retention=DAY)
        await store.delete(Key("acme", "other"))
        assert not _holds(tmp_path, b"quick brown")
        assert not _holds(tmp_path, b"s-1")
        await store.open(KEY, "a", DAY)
        await store.keep(KEY, "a", secret, drop=(), retention=0.001)
        assert _holds(tmp_path, b"quick brown")
    await asyncio.sleep(0.01)
    async with open_sqlite(path, remembered=DAY) as store:
        assert await store.about(KEY) is None  # behind the first sweep
        assert not _holds(tmp_path, b"quick brown")


def _holds(directory: Path, text: bytes) -> bool:
    return any(text in file.read_bytes() for file in directory.iterdir())


def names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


async def test_nothing_of_a_deleted_session_is_left_in_redis(server: RedisServer) -> None:
    """No key is left of a tenant that had one session."""
    server.restart()
    place = redis_place(server.url)
    async with asyncio.timeout(TIMEOUT), open_redis(place, remembered=DAY) as store, place.open() as client:
        await kept(store, KEY, "a")
        keys: Any = client
        assert len(await keys.keys("*")) == 3
        await store.delete(KEY)
        assert await keys.keys("*") == []


async def test_a_file_belongs_to_one_process_and_is_checked(tmp_path: Path) -> None:
    """A file that another one uses, and one that is no database, is refused with what to do."""
    path = tmp_path / "sessions.db"
    async with open_sqlite(path, remembered=DAY):
        with pytest.raises(SessionsFileError, match=r"the file of the sessions .*in use by another process"):
            async with open_sqlite(path, remembered=DAY):
                pass
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(SessionsFileError, match="name another file, or move it away"):
        async with open_sqlite(path, remembered=DAY):
            pass


async def test_memory_has_a_bound() -> None:
    """Where it is full, the sessions that would expire first are forgotten; the one that is talked in stays whole."""
    room = 1_048_576
    body = secrets.token_bytes(10_000)
    names = [f"long-{number:03d}" for number in range(40)] + [f"short-{number:03d}" for number in range(200)]

    async def known(store: SessionStore) -> list[str]:
        return [about.session for about in await store.sessions("acme", "", 1_000)]

    async with asyncio.timeout(TIMEOUT), open_sqlite(IN_MEMORY, remembered=DAY, memory=room) as store:
        for name in names:
            key, retention = Key("acme", name), (2 if name.startswith("long") else 1) * DAY
            await store.open(key, "a", retention)
            assert await store.keep(key, "a", body, drop=(), retention=retention)
            assert await bodies(store, key) == [body]
        left = await known(store)
        assert left == names[:40] + names[len(names) - len(left) + 40 :]
        assert room / 2 < len(left) * len(body) < room
        for number in range(200):
            await store.open(KEY, f"turn-{number}", DAY)
            assert await store.keep(KEY, f"turn-{number}", body, drop=(), retention=DAY)
        assert await known(store) == [KEY.session]
        assert await bodies(store, KEY) == [body] * 200


async def test_a_redis_that_is_gone(server: RedisServer) -> None:
    """Is told at the start, and by every call as one typed error."""
    server.restart()
    place = redis_place(server.url)
    async with asyncio.timeout(TIMEOUT), open_redis(place, remembered=DAY) as store:
        server.kill()
        with pytest.raises(UnavailableError) as failure:
            await store.open(KEY, "a", DAY)
        assert failure.value.reason == "SESSIONS_UNAVAILABLE"
        with pytest.raises(RedisUnusableError, match="is it started"):
            async with open_redis(place, remembered=DAY):
                pass
    server.start()


async def test_the_place_says_which_store(tmp_path: Path, server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path is a file, a URL a Redis, `memory:` and nothing none; with the turn log alone set, they lie beside it."""
    server.restart()
    monkeypatch.chdir(tmp_path)
    for place in (str(tmp_path / "s.db"), server.url, "", "memory:", ":memory:"):
        async with asyncio.timeout(TIMEOUT), open_sessions(place, turn_retention=1.0) as store:
            assert await kept(store, KEY, "a")
    assert names_in(tmp_path) == ["s.db"]
    with pytest.raises(RedisUnusableError):
        open_sessions("redis://", turn_retention=1.0)
    assert beside("") == ""
    assert beside("memory:") == "memory:"
    assert beside("redis://h/1") == "redis://h/1"
    assert beside("/var/lib/turns.db") == "/var/lib/turns-sessions.db"
