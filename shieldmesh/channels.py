"""Pooled gRPC channels: one per running event loop, target and credentials; see `shieldmesh.affinity`."""

import json
from pathlib import Path
from typing import Any, Final

import grpc

from shieldmesh import inprocess
from shieldmesh.affinity import LoopPool
from shieldmesh.interceptors.client import ContextChannel

_SERVICE_CONFIG: Final[dict[str, Any]] = {
    # Replicas behind a headless Service share the calls; one address behaves as before.
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{}],
            # A service that restarts is UNAVAILABLE for a moment. gRPC retries streams before their first message only.
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 3,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    # Retries stop when more than half of the calls fail: they must not multiply the load of a service in trouble.
    "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
}

CHANNEL_OPTIONS: Final[tuple[tuple[str, Any], ...]] = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # No backoff, in spite of its name: how long one attempt to connect may take, handshakes included.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # What a reader that stalls lets gather here. gRPC would measure the path and let megabytes gather for each stream;
    # for a message that is being read the window grows to its size, so large ones are none the slower.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 16_384),
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
)
"""`shieldmesh.server.SERVER_OPTIONS` allows these pings: the two belong together."""

TLS: Final = "tls:"
"""Before a target whose connection is encrypted."""

_Key = tuple[str, grpc.ChannelCredentials | None, bool]

_pool: Final[LoopPool[_Key, ContextChannel]] = LoopPool(ContextChannel.close)


def get(target: str, credentials: grpc.ChannelCredentials | None = None, *, retrying: bool = True) -> grpc.aio.Channel:
    """This loop's channel to `target`. It connects when it is first used.

    Args:
        target: The server: `unix:/path`, `dns:///host:port`, `host:port`, one of these behind `tls:`, or
            `inprocess:NAME`.
        credentials: Those of TLS; channels with different ones share nothing. None leaves it to the target: plain text
            or, behind `tls:`, the system's authorities or those of a file (`tls:host:port?ca=/path`).
        retrying: Whether calls are tried again while the server is UNAVAILABLE; not where another can be asked instead.

    Raises:
        RuntimeError: no event loop is running.
        OSError: the file of the authorities cannot be read.
    """
    key = target, credentials, retrying
    return _pool.get(key, lambda: ContextChannel(_connect(*key), address(target)))


def blocking(target: str) -> grpc.Channel:
    """A channel to `target` for code without a loop, which carries no context; see `get`."""
    credentials = _credentials(target)
    if credentials is None:
        return grpc.insecure_channel(target, options=CHANNEL_OPTIONS)
    return grpc.secure_channel(address(target), credentials, options=CHANNEL_OPTIONS)


def address(target: str) -> str:
    """The target as gRPC says it, whether it is encrypted or not."""
    return target.removeprefix(TLS).partition("?")[0] if target.startswith(TLS) else target


async def close() -> None:
    """Closes all channels of the running loop; a later `get` opens new ones."""
    await _pool.close()


def _connect(target: str, credentials: grpc.ChannelCredentials | None, retrying: bool) -> grpc.aio.Channel:
    if target.startswith(inprocess.PREFIX):
        return inprocess.Channel(target)
    options = [*CHANNEL_OPTIONS, ("grpc.enable_retries", int(retrying))]
    credentials = credentials or _credentials(target)
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=options)
    return grpc.aio.secure_channel(address(target), credentials, options=options)


def _credentials(target: str) -> grpc.ChannelCredentials | None:
    """Those that the target itself asks for."""
    if not target.startswith(TLS):
        return None
    _, _, authorities = target.partition("?ca=")
    return grpc.ssl_channel_credentials(Path(authorities).read_bytes() if authorities else None)
