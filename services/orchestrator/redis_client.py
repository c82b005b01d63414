"""A client of the Redis or Valkey that a setting names."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from redis.asyncio import ConnectionPool, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError

Client: TypeAlias = "Redis"
Command: TypeAlias = "Sequence[str | bytes | int]"
"""Its name and its arguments."""
FAILURES: Final = (RedisError, OSError, RuntimeError)
"""What calls of a client raise when Redis cannot be reached, or cannot do it. RuntimeError is uvloop's word for a
connection that was closed meanwhile."""

_PORT: Final = 6379
_SENTINEL_PORT: Final = 26_379
_OPTIONS: Final = frozenset({"db", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_CONNECT_SECONDS: Final = 2.0
_ANSWER_SECONDS: Final = 5.0
_LONGEST_PAUSE: Final = 0.5


class RedisUnusableError(Exception):
    """Redis cannot be used; the message says why and what to do, and holds no password."""


@dataclass(frozen=True, slots=True)
class RedisPlace:
    """Where a Redis is, and how to get in.

    Attributes:
        shown: The place for people, without any secret.
    """

    shown: str
    hosts: tuple[tuple[str, int], ...]
    """One, or the Sentinels'; none for a Unix socket."""
    service: str
    """What the Sentinels call it; "" where there are none."""
    options: dict[str, Any] = field(repr=False)  # Any: as redis-py takes them

    @asynccontextmanager
    async def open(self, *, patience: float = 0.0) -> AsyncGenerator[Client]:
        """A client for the event loop, which connects when it is needed.

        Args:
            patience: Seconds for about which a command is tried again while Redis cannot be reached.
        """
        retry = Retry(ExponentialBackoff(cap=_LONGEST_PAUSE, base=0.01), round(patience / _LONGEST_PAUSE))
        options: dict[str, Any] = {  # Any: as redis-py takes them
            **self.options,
            "retry": retry,
            "socket_timeout": _ANSWER_SECONDS,
            "socket_connect_timeout": _CONNECT_SECONDS,
        }
        async with AsyncExitStack() as stack:
            if self.service:
                sentinel: Any = Sentinel(self.hosts, **options)  # type: ignore[no-untyped-call]  # Any: it has no types
                for each in sentinel.sentinels:
                    stack.push_async_callback(each.aclose)
                client: Client = sentinel.master_for(self.service)
            else:
                options |= {
                    name: value for host in self.hosts for name, value in zip(("host", "port"), host, strict=True)
                }
                client = Redis.from_pool(ConnectionPool(**options))
            stack.push_async_callback(client.aclose)
            yield client


async def together(client: Client, commands: Iterable[Command], *, atomic: bool = False) -> list[Any]:
    """The answers to commands that go out in one round trip; where one failed, its error stands in the list.

    Raises:
        FAILURES: Redis does not answer; some of the commands may have been done.
    """
    pipeline: Any = client.pipeline(transaction=atomic)  # Any: its methods are typed in part
    for command in commands:
        pipeline.execute_command(*command)
    answers: list[Any] = await pipeline.execute(raise_on_error=False)  # Any: as the commands answer
    return answers


def is_redis(setting: str) -> bool:
    """Whether a setting is meant as a URL, which `redis_place` understands or refuses, and not as a file."""
    return "://" in setting


def redis_place(url: str, password: str = "") -> RedisPlace:
    """What a URL says.

    Args:
        url: `redis://[user@]host[:port][/db]`, the same with `rediss` for TLS, `unix:///path[?db=0]`, or
            `redis+sentinel://[user@]host[:port][,host[:port]…]/service[/db]`.
        password: Of the user or, without one, of the server; URLs hold none.

    Raises:
        RedisUnusableError: it is no such URL.
    """
    try:
        parts = urlsplit(url)
        scheme, _, sentinel = parts.scheme.partition("+")
        options = _options(parts, scheme, sentinel=bool(sentinel))
        hosts: tuple[tuple[str, int], ...] = ()
        service = ""
        if scheme == "unix":
            _expect(not parts.netloc)
        else:
            _expect(scheme in {"redis", "rediss"})
            hosts = _hosts(parts.netloc.rpartition("@")[2], _SENTINEL_PORT if sentinel else _PORT)
            service, number = _path(parts.path, sentinel=bool(sentinel))
            options |= {"db": int(number)} if number else {}
            _expect(sentinel or len(hosts) == 1)
    except ValueError:
        raise RedisUnusableError(
            "it is no URL of a Redis: expected redis://host:port/db, rediss://…, unix:///path or "
            "redis+sentinel://host:port,host:port/service, without a password"
        ) from None
    if password:
        options["password"] = password
    return RedisPlace(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}", hosts, service, options)


def _options(parts: SplitResult, scheme: str, *, sentinel: bool) -> dict[str, Any]:  # Any: as redis-py takes them
    _expect(parts.password is None)
    options: dict[str, Any] = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
    _expect(options.keys() <= _OPTIONS)
    if "db" in options:
        options["db"] = int(options["db"])
    if parts.username:
        options["username"] = unquote(parts.username)
    if scheme == "unix":
        options |= {"connection_class": UnixDomainSocketConnection, "path": unquote(parts.path)}
    elif scheme == "rediss":
        options |= {"ssl": True} if sentinel else {"connection_class": SSLConnection}
    return options


def _path(path: str, *, sentinel: bool) -> tuple[str, str]:
    """The service and the number of the database."""
    service, _, number = path.lstrip("/").partition("/") if sentinel else ("", "", path.lstrip("/"))
    _expect(bool(service) == sentinel)
    return unquote(service), number


def _expect(right: object) -> None:
    if not right:
        raise ValueError


def _hosts(named: str, port: int) -> tuple[tuple[str, int], ...]:
    return tuple(_host(urlsplit(f"//{each}"), port) for each in named.split(","))


def _host(parts: SplitResult, port: int) -> tuple[str, int]:
    _expect(parts.hostname)
    return str(parts.hostname), parts.port or port
