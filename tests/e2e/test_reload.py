"""Profiles of a running mesh follow their files, and its health tells when they cannot."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2

import shieldmesh
from shieldmesh import Started
from tests.e2e.engine import TIMEOUT
from tests.e2e.mesh import ECHO_MODELS, running


async def test_an_edited_policy_is_used_by_the_next_turn(tmp_path: Path) -> None:
    """A broken file turns `profiles` NOT_SERVING and nothing else; a right one is used, with a version of its own."""
    write(tmp_path, "model: echo")
    with running(profiles=tmp_path, models=ECHO_MODELS) as mesh:
        orchestrator = mesh.targets["orchestrator"]
        async with grpc.aio.insecure_channel(orchestrator) as channel, aclosing(health(channel)) as profiles:
            assert await anext(profiles) is True
            first = await version(mesh.url)
            write(tmp_path, "model: echo\nprompts: x")
            assert await anext(profiles) is False
            assert await overall(channel) is True
            assert await version(mesh.url) == first
            write(tmp_path, "model: echo\nprompt: x")
            assert await anext(profiles) is True
            second = await version(mesh.url)
            assert second != first
        refused, loaded = (line for line in mesh.log("orchestrator").splitlines() if '"profiles ' in line)
        assert "default.yaml:2: prompts: there is no such field here" in refused
        assert '"changed": ["default"]' in loaded


def write(directory: Path, content: str) -> None:
    """Writes the profile in one step, as editors do."""
    (directory / ".new").write_text(content)
    (directory / ".new").replace(directory / "default.yaml")


async def version(url: str) -> str:
    """The version of the policy under which a turn runs now."""
    async with shieldmesh.connect(url) as mesh, mesh.chat("hi", timeout=TIMEOUT) as turn:
        (started,) = [event async for event in turn if isinstance(event, Started)]
        return started.profile_version


async def health(channel: grpc.aio.Channel) -> AsyncGenerator[bool]:
    """Whether all is well with the profiles, now and whenever that changes."""
    watch: grpc.aio.UnaryStreamMultiCallable[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]
    watch = channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )
    async for answer in watch(health_pb2.HealthCheckRequest(service="profiles"), timeout=TIMEOUT):
        yield answer.status == health_pb2.HealthCheckResponse.SERVING


async def overall(channel: grpc.aio.Channel) -> bool:
    """Whether the service as a whole serves."""
    check: grpc.aio.UnaryUnaryMultiCallable[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )
    answer = await check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT)
    return answer.status == health_pb2.HealthCheckResponse.SERVING
