"""Pooled channels: one per running event loop and target, shared by all calls, closed with the loop.

A channel belongs to the loop that made it and fails under any other ("Event loop is closed"), so the pool is keyed by
the running loop. Each loop's channels are closed when the loop shuts its asynchronous generators down, as
`asyncio.run` does at its end; `close` does it earlier.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Any, Final
from weakref import WeakKeyDictionary

import grpc

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
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
)
"""`shieldmesh.server.SERVER_OPTIONS` allows these pings: the two belong together."""


class _LoopChannels:
    """The channels of one loop."""

    def __init__(self) -> None:
        self.by_target: dict[str, ContextChannel] = {}
        self._closer: AsyncGenerator[None, None] = self._close_with_loop()
        # One step registers the generator with the loop, which closes it when it shuts down.
        with contextlib.suppress(StopIteration):
            self._closer.asend(None).send(None)

    async def close(self) -> None:
        channels = list(self.by_target.values())
        self.by_target.clear()
        for channel in channels:
            await channel.close()

    async def _close_with_loop(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self.close()


_pools: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopChannels]] = WeakKeyDictionary()


def get(target: str) -> grpc.aio.Channel:
    """This loop's channel to `target`: `unix:/path`, `dns:///host:port` or `host:port`. Connects when first used.

    Raises:
        RuntimeError: no event loop is running.
    """
    loop = asyncio.get_running_loop()
    pool = _pools.get(loop)
    if pool is None:
        pool = _pools[loop] = _LoopChannels()
    channel = pool.by_target.get(target)
    if channel is None:
        channel = ContextChannel(grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS), target)
        pool.by_target[target] = channel
    return channel


async def close() -> None:
    """Closes all channels of the running loop; a later `get` opens new ones."""
    pool = _pools.get(asyncio.get_running_loop())
    if pool is not None:
        await pool.close()
