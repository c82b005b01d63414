"""Which Redis a setting names, and what its client does."""

import asyncio
from typing import Any

import pytest

from services.orchestrator.redis_client import FAILURES, RedisUnusableError, is_redis, redis_place
from tests.redis_server import redis_server


@pytest.mark.parametrize(
    ("url", "hosts", "service", "options"),
    [
        ("redis://h", [("h", 6379)], "", {}),
        ("redis://me@h:1/3", [("h", 1)], "", {"username": "me", "db": 3}),
        ("redis://[::1]:7", [("::1", 7)], "", {}),
        ("unix:///a/b%20c?db=3", [], "", {"path": "/a/b c", "db": 3}),
        ("rediss://h/2?ssl_ca_certs=/ca.pem", [("h", 6379)], "", {"ssl_ca_certs": "/ca.pem", "db": 2}),
        ("redis+sentinel://a,b:33/main/1", [("a", 26379), ("b", 33)], "main", {"db": 1}),
        ("rediss+sentinel://a/main", [("a", 26379)], "main", {"ssl": True}),
    ],
)
def test_what_a_url_says(url: str, hosts: list[tuple[str, int]], service: str, options: dict[str, Any]) -> None:
    """Host, port, user, database and the names of Sentinel come from the URL, the password from beside it."""
    place = redis_place(url, "s3cret")
    given = {name: value for name, value in place.options.items() if name != "connection_class"}
    assert is_redis(url)
    assert (list(place.hosts), place.service, given) == (hosts, service, {**options, "password": "s3cret"})
    assert "s3cret" not in repr(place)


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://me:s3cret@h",
        "redis://:s3cret@h",
        "redis://a,b",
        "redis://h/x",
        "redis://h/1/2",
        "redis://h:99999",
        "redis://h?password=s3cret",
        "redis+sentinel://a",
        "unix://h/a",
        "valkey://h",
    ],
)
def test_what_is_no_url_of_a_redis(url: str) -> None:
    """A wrong URL, and one with a password in it, is refused with what is expected and nothing of itself."""
    with pytest.raises(RedisUnusableError, match="expected redis://host:port/db") as refused:
        redis_place(url)
    assert "s3cret" not in str(refused.value)
    assert refused.value.__suppress_context__


def test_a_path_is_no_redis() -> None:
    """Files keep being files."""
    assert not is_redis("/var/lib/turns.db")
    assert not is_redis("redis")


async def test_a_patient_client_waits_for_a_redis_that_starts() -> None:
    """A command is tried again while Redis is away, by a client with patience alone."""
    with redis_server() as server:
        place = redis_place(server.url)
        async with asyncio.timeout(20), place.open() as hasty, place.open(patience=15.0) as patient:
            await hasty.set("key", "value")
            server.kill()
            with pytest.raises(FAILURES):
                await hasty.get("key")
            waiting = asyncio.ensure_future(patient.get("key"))
            await asyncio.sleep(0.05)
            server.start()
            assert await waiting is None
