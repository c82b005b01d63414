"""Promise 14, overload is refused, not suffered: beyond its limits a service says so at once and works on."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from gateway.proxy import add_proxies
from shieldmesh import ResourceExhaustedError, Started, TurnState, calls, channels, context
from shieldmesh.admission import Places
from shieldmesh.context import RequestContext
from shieldmesh.v1 import chat_pb2, chat_pb2_grpc, message_pb2

from .fakes import HangingShields, shields
from .mesh import REPLAY, TIMEOUT, Mesh, OpenService, deny, eventually, running

HealthCheck: TypeAlias = (
    "grpc.aio.UnaryUnaryMultiCallable[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]"
)

PLACES, QUEUE = 3, 2
FEW: dict[str, Any] = {
    "models": [
        *REPLAY["models"],
        {
            "name": "few",
            "backend": "replay",
            "max_running": PLACES,
            "max_waiting": QUEUE,
            "options": {"text": "Never.", "first_token_ms": 600_000},
        },
        {
            "name": "one",
            "backend": "replay",
            "max_running": 1,
            "max_waiting": 8,
            "weights": {"large": 2},
            "options": {"text": "Done."},
        },
    ]
}
NEVER = {"model": "never", "disconnect": "detach"}


@pytest.mark.parametrize(
    ("full", "policy", "replaced"),
    [
        ("gateway Chat", {"model": "never"}, {}),
        ("orchestrator", {"model": "never"}, {}),
        ("shield Inspect", {"input": {"shields": [deny("x")]}}, {"shield": shields(HangingShields())}),
        ("shield InspectStream", {"model": "never", "output": {"shields": [deny("x")]}}, {}),
        ("inference few", {"model": "few"}, {}),
    ],
)
async def test_ten_times_the_capacity(
    tmp_path: Path, full: str, policy: dict[str, Any], replaced: dict[str, OpenService]
) -> None:
    """Places and queue fill, everybody else is refused by the service that is full, and it takes the next then."""
    places = {full: Places(full, max_running=PLACES, max_waiting=QUEUE)}
    profiles = {"default": policy, "free": {"model": "echo"}}
    async with running(tmp_path, profiles=profiles, models=FEW, replaced=replaced, places=places, call_cap=60) as mesh:
        turns = [asyncio.create_task(chat(mesh)) for _ in range(10 * (PLACES + QUEUE))]
        await eventually(lambda: sum(turn.done() for turn in turns) == len(turns) - PLACES - QUEUE)
        where = mesh.model("few").admission if full == "inference few" else places[full]
        assert (where.running, where.waiting) == (PLACES, QUEUE)
        for turn in turns:
            if turn.done():
                refused = turn.exception()
                assert isinstance(refused, ResourceExhaustedError)
                assert (refused.reason, bool(refused.retry_after)) == ("QUEUE_FULL", True)
                assert refused.hops[-1].service == full.partition(" ")[0]
        # A refusal is final: nobody tried again behind the caller's back.
        tried = Counter((call.service, call.method.rpartition("/")[2]) for call in mesh.served)
        assert max(tried.values()) == len(turns)
        for turn in turns:
            turn.cancel()
        await asyncio.wait(turns)
        await eventually(lambda: where.running == 0)
        if not replaced:
            assert await chat(mesh, "free") == "hello"


async def test_health_and_the_control_of_turns_are_never_refused(tmp_path: Path) -> None:
    """A full mesh is healthy, shows its turns, and ends one when asked to; whoever comes next has that one's place."""
    places = {name: Places(name, max_running=1, max_waiting=0) for name in ("gateway Chat", "orchestrator")}
    async with (
        running(
            tmp_path,
            profiles={"default": NEVER, "free": {"model": "echo"}},
            replaced={"gateway": gateway_with_health(tmp_path)},
            places=places,
        ) as mesh,
        mesh.client as client,
    ):
        turn = client.chat("hello", session="s", timeout=TIMEOUT)
        started = await anext(turn)
        assert isinstance(started, Started)
        with pytest.raises(ResourceExhaustedError):
            await chat(mesh, "free")
        check: HealthCheck = channels.get(mesh.target("gateway")).unary_unary(
            "/grpc.health.v1.Health/Check",
            health_pb2.HealthCheckRequest.SerializeToString,
            health_pb2.HealthCheckResponse.FromString,
        )
        checked = await calls.unary(check, health_pb2.HealthCheckRequest(), timeout=TIMEOUT)
        assert checked.status == health_pb2.HealthCheckResponse.SERVING
        record = await client.get_turn(started.turn_id, session="s", timeout=TIMEOUT)
        assert record.state is TurnState.RUNNING
        # It goes on without its client, and keeps its place.
        await turn.aclose()
        await eventually(lambda: places["gateway Chat"].running == 0)
        with pytest.raises(ResourceExhaustedError) as refused:
            await chat(mesh, "free")
        assert refused.value.hops[-1].service == "orchestrator"
        await client.cancel_turn(started.turn_id, session="s", timeout=TIMEOUT)
        await eventually(lambda: not any(each.running for each in places.values()))
        assert await chat(mesh, "free") == "hello"


async def test_work_that_would_be_late_is_refused_before_it_waits(tmp_path: Path) -> None:
    """Where the queue takes longer than the deadline leaves, the answer comes now, and the model hears of nothing."""
    async with running(tmp_path, models=FEW, profiles={"default": {"model": "one"}}) as mesh:
        model = mesh.model("one").admission
        await model.enter()
        model.left(1_000.0)
        async with model.place():
            with pytest.raises(ResourceExhaustedError) as refused:
                await chat(mesh)
            assert (refused.value.reason, bool(refused.value.retry_after)) == ("DEADLINE_TOO_SHORT", True)
            assert (model.waiting, mesh.generated()) == (0, 0)
        assert await chat(mesh) == "Done."


async def test_a_flood_does_not_keep_others_out(tmp_path: Path) -> None:
    """Behind a tenant that fills the queue many times over, others get their shares of the room and of the places."""
    async with running(tmp_path, models=FEW, profiles={"default": {"model": "one"}}) as mesh:
        model = mesh.model("one").admission
        served: list[str] = []
        async with model.place():
            flood = [asyncio.create_task(chat_as(mesh, "flood", served)) for _ in range(40)]
            await eventually(lambda: sum(turn.done() for turn in flood) == 32)
            small = [asyncio.create_task(chat_as(mesh, "small", served)) for _ in range(10)]
            large = [asyncio.create_task(chat_as(mesh, "large", served)) for _ in range(10)]
            await eventually(lambda: sum(turn.done() for turn in flood + small + large) == 60 - 8)
        results = await asyncio.gather(*flood, *small, *large, return_exceptions=True)
    assert Counter(type(result) for result in results) == {str: 8, ResourceExhaustedError: 52}
    assert Counter(served) == {"flood": 2, "small": 2, "large": 4}
    # Where one ends and the next begins, their last messages can overtake each other.
    assert set(served[:5]) == {"flood", "small", "large"}


async def chat_as(mesh: Mesh, tenant: str, served: list[str]) -> str:
    """A turn of a tenant, which the gateway has authenticated."""
    with context.use(RequestContext(tenant_id=tenant, session_id="s", request_id=context.new_id())):
        answer = await _chat(mesh.orchestrator, "default")
    served.append(tenant)
    return answer


async def chat(mesh: Mesh, profile: str = "default") -> str:
    """The answer to one plain call, which nobody repeats."""
    return await _chat(chat_pb2_grpc.ChatServiceStub(channels.get(mesh.target("gateway"))), profile)


async def _chat(stub: "chat_pb2_grpc.ChatServiceAsyncStub", profile: str) -> str:
    hello = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.ContentPart(text="hello")])
    request = chat_pb2.ChatRequest(profile=profile, messages=[hello])
    async with calls.stream(stub.Chat, request, timeout=6 * TIMEOUT) as events:
        return "".join([event.delta.text async for event in events])


def gateway_with_health(directory: Path) -> OpenService:
    """A gateway that answers health checks, as its process does."""

    @asynccontextmanager
    async def opener(server: grpc.aio.Server) -> AsyncGenerator[None]:
        add_proxies(server, channels.get(f"unix:{directory / 'orchestrator'}.sock"))
        checks = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(checks, server)
        await checks.set("", health_pb2.HealthCheckResponse.SERVING)
        yield

    return opener
