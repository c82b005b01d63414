"""Whether a service is ready."""

import asyncio
from typing import Final

import grpc
from grpc_health.v1 import health_pb2

_OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
)
_TRY_SECONDS: Final = 2.0
_PAUSE_SECONDS: Final = 0.05


async def until_serving(target: str) -> None:
    """Returns when the service at `target` says that it serves, however long that takes."""
    async with grpc.aio.insecure_channel(target, options=_OPTIONS) as channel:
        # Nothing would tell: a watch of a server that is not there ends like a check does.
        while not await _serving(channel):  # noqa: ASYNC110
            await asyncio.sleep(_PAUSE_SECONDS)


async def _serving(channel: grpc.aio.Channel) -> bool:
    check: grpc.aio.UnaryUnaryMultiCallable[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )
    try:
        answer = await check(health_pb2.HealthCheckRequest(), timeout=_TRY_SECONDS, wait_for_ready=True)
    except grpc.aio.AioRpcError:
        return False
    return answer.status == health_pb2.HealthCheckResponse.SERVING
