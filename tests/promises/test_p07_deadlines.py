"""P7: deadlines travel: every hop gets the remaining time less a margin, and nothing runs on after its deadline."""

import asyncio
import struct
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

import shieldmesh
from shieldmesh import calls, channels, context
from shieldmesh.context import RequestContext
from shieldmesh.interceptors.deadline import LARGEST_MARGIN
from shieldmesh.v1 import chat_pb2, chat_pb2_grpc, inference_pb2, message_pb2

from . import clock
from .fakes import HangingShields, shields
from .mesh import TIMEOUT, Mesh, OpenService, deny, eventually, running, tasks_at_work
from .observing import observed

CHAT = "shieldmesh.v1.ChatService/Chat"
GENERATE = "shieldmesh.v1.InferenceService/Generate"
GUARDED = {"input": {"shields": [deny("bluebird")]}, "output": {"shields": [deny("bluebird")]}}


@pytest.mark.parametrize("seconds", [9.99, 59.95, 100.0, 299.5, 5_000.0])
async def test_it_shrinks_at_every_hop(tmp_path: Path, seconds: float) -> None:
    """Each hop has less than the one before, by the margin at least, however gRPC rounds on the wire."""
    async with running(tmp_path, profiles={"default": GUARDED}, call_cap=50_000) as mesh:
        await mesh.client.chat("hello", timeout=seconds).result()
        (gateway,), (orchestrator,) = left(mesh, "gateway"), left(mesh, "orchestrator")
        inner = [*left(mesh, "shield"), *left(mesh, "inference")]
    assert gateway <= seconds - LARGEST_MARGIN
    assert orchestrator <= gateway - LARGEST_MARGIN
    assert len(inner) == 3
    assert max(inner) <= orchestrator - LARGEST_MARGIN


def left(mesh: Mesh, service: str) -> list[float]:
    """Seconds that each call at a service had left when it began."""
    return [call.remaining for call in mesh.served if call.service == service and call.remaining is not None]


async def test_a_call_without_one_gets_the_cap(tmp_path: Path) -> None:
    """A client that sets no deadline gets the gateway's cap, and the hops behind it what is left of that."""
    async with running(tmp_path, profiles={"default": GUARDED}, call_cap=20.0) as mesh:
        stub = chat_pb2_grpc.ChatServiceStub(channels.get(mesh.target("gateway")))
        async with asyncio.timeout(TIMEOUT), calls.stream(stub.Chat, _request()) as events:
            assert [event.sequence async for event in events]
        assert len(mesh.served) == 5
        assert all(call.remaining is not None and call.remaining < 20.0 for call in mesh.served)


@pytest.mark.parametrize("header", ["99999999H", "99999999S", "1H", "soon", "-5S", "1", "", "18446744073709551616S"])
async def test_a_header_that_is_huge_or_wrong_is_capped(tmp_path: Path, header: str) -> None:
    """Whatever a stranger writes into grpc-timeout, the call is refused, or has a deadline no later than the cap."""
    async with running(tmp_path, profiles={"default": {"model": "never"}}, call_cap=20.0) as mesh:
        async with http2_call(mesh.directory / "gateway.sock", CHAT, _request().SerializeToString(), header):
            if header.endswith("H"):
                await eventually(lambda: mesh.model("never").admission.running == 1)
        await mesh.idle()
        assert all(call.remaining is not None and call.remaining < 20.0 for call in mesh.served)
        assert mesh.served or not header.endswith("H")


@asynccontextmanager
async def http2_call(socket: Path, method: str, message: bytes, grpc_timeout: str) -> AsyncGenerator[None]:
    """A call over bytes that no gRPC library would make, once it was answered; dropped at the end of the block."""
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": f"/{method}",
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
        "grpc-timeout": grpc_timeout,
    }
    fields = b"".join(b"\x00" + _text(name) + _text(value) for name, value in headers.items())
    reader, writer = await asyncio.open_unix_connection(socket)
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0, b""))
    writer.write(_frame(1, 0x4, 1, fields) + _frame(0, 0x1, 1, struct.pack(">BI", 0, len(message)) + message))
    try:
        async with asyncio.timeout(TIMEOUT):
            # The first frame of stream 1: the answer's headers, or a refusal.
            while await _read_frame(reader) != 1:
                pass
        yield
    finally:
        writer.close()
        await writer.wait_closed()


async def _read_frame(reader: asyncio.StreamReader) -> int:
    """The stream of the next frame."""
    header = await reader.readexactly(9)
    await reader.readexactly(int.from_bytes(header[:3]))
    return int.from_bytes(header[5:]) & 0x7FFFFFFF


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _text(value: str) -> bytes:
    return bytes([len(value)]) + value.encode()


SOON = 10
"""Seconds in which no deadline of these tests passes."""


@dataclass(frozen=True)
class Slow:
    """A mesh in which one hop is slow, and the way to it."""

    profile: dict[str, Any]
    hops: list[tuple[str, str]]
    hanging: HangingShields | None = None

    @property
    def replaced(self) -> dict[str, OpenService]:
        """What stands in the place of the real services."""
        return {"shield": shields(self.hanging)} if self.hanging else {}


def _slow_hops() -> dict[str, Slow]:
    entry = [("gateway", CHAT), ("orchestrator", CHAT)]
    guard = {"shields": [deny("bluebird")]}
    return {
        "engine": Slow({"model": "never"}, [*entry, ("inference", GENERATE)]),
        "queue": Slow({"model": "narrow"}, [*entry, ("inference", GENERATE)]),
        "input shield": Slow(
            {"input": {"mode": "gate", **guard}},
            [*entry, ("shield", "shieldmesh.v1.ShieldService/Inspect")],
            HangingShields(),
        ),
        "output shield": Slow(
            {"output": guard}, [*entry, ("shield", "shieldmesh.v1.ShieldService/InspectStream")], HangingShields()
        ),
    }


@pytest.mark.parametrize("place", list(_slow_hops()))
def test_the_hop_that_ran_out_of_time_says_so(tmp_path: Path, place: str) -> None:
    """The client hears DEADLINE_EXCEEDED from the hop that was slow, over the whole path; and nothing runs on."""
    slow = _slow_hops()[place]

    async def main(loop: clock.SteppedLoop) -> None:
        with observed() as seen:
            # No timer but those of the deadlines rings in the time of the turn.
            profiles = {"default": {"stall": {"after": 400}, **slow.profile}}
            async with running(tmp_path, profiles=profiles, replaced=slow.replaced, call_cap=50_000) as mesh:
                # Whoever holds the only place has all the time of the world.
                ahead = mesh.client.chat("first", timeout=6_000) if place == "queue" else None
                if ahead is not None:
                    await anext(ahead)
                    await clock.until(lambda: mesh.model("narrow").admission.running == 1)
                turn = asyncio.create_task(mesh.client.chat("hello", timeout=50).result())
                await clock.until(lambda: _is_at_work(mesh, loop, slow, place))
                await mesh.logged()
                while loop.timers()[0] < SOON:  # what came meanwhile, the turn log gathers for a moment
                    loop.ring_next()
                    await asyncio.sleep(0)
                loop.ring_next()
                await clock.until(turn.done)
                error = turn.exception()
                assert isinstance(error, shieldmesh.DeadlineExceededError)
                assert [(hop.service, hop.method) for hop in error.hops] == slow.hops
                assert all(hop.instance and hop.reason == "DEADLINE_EXCEEDED" for hop in error.hops)
                if ahead is not None:
                    await ahead.aclose()
                await clock.until(lambda: not any(around.running for around in mesh.around.values()))
                await clock.until(lambda: not tasks_at_work())
                await clock.until(lambda: not seen.spans.open)
                assert [(each.admission.running, each.admission.waiting) for each in mesh.models.models.values()] == [
                    (0, 0)
                ] * len(mesh.models.models)

    clock.run(main)


def _is_at_work(mesh: Mesh, loop: clock.SteppedLoop, slow: Slow, place: str) -> bool:
    match place:
        case "engine":
            # The timer of its first token runs.
            return loop.timers()[-1:] == [600.0]
        case "queue":
            return mesh.model("narrow").admission.waiting == 1
        case "input shield":
            return slow.hanging is not None and slow.hanging.inspecting == 1
        case _:
            # The engine is done: all that is waited for is the shield.
            idle = mesh.around["inference"].running == 0 and mesh.generated() == 1
            return slow.hanging is not None and slow.hanging.inspecting == 1 and idle


def test_a_foreign_service_that_hangs(tmp_path: Path) -> None:
    """Behind a service that knows no deadlines the hop before it answers in time, and its caller hears that."""

    async def hang(request: object, context: object) -> AsyncGenerator[bytes]:
        del request, context
        await asyncio.Event().wait()
        yield b""

    async def main(loop: clock.SteppedLoop) -> None:
        async with running(tmp_path, without=["orchestrator"]) as mesh:
            server = grpc.aio.server()
            handler: grpc.RpcMethodHandler[Any, Any] = grpc.unary_stream_rpc_method_handler(hang)
            server.add_registered_method_handlers("shieldmesh.v1.ChatService", {"Chat": handler})
            server.add_insecure_port(mesh.target("orchestrator"))
            await server.start()
            turn = asyncio.create_task(mesh.client.chat("hello", timeout=50).result())
            await clock.until(lambda: len(mesh.served) == 1)
            loop.ring_next()
            await clock.until(turn.done)
            error = turn.exception()
            await server.stop(None)
        assert isinstance(error, shieldmesh.DeadlineExceededError)
        assert [(hop.service, hop.instance) for hop in error.hops] == [("gateway", "gateway-1")]

    clock.run(main)


async def test_the_engine_stops_at_the_deadline(tmp_path: Path) -> None:
    """In real time: a turn that is cut off by its deadline generates nothing more."""
    with observed() as seen:
        async with running(tmp_path, profiles={"default": {"model": "endless"}, "plain": {}}) as mesh:
            with pytest.raises(shieldmesh.DeadlineExceededError):
                await mesh.client.chat("hello", timeout=1.5).result()
            await mesh.idle()
            before = mesh.generated()
            assert before > 0
            await mesh.client.chat("one two three", profile="plain", timeout=TIMEOUT).result()
            assert mesh.generated() == before + 3
            await mesh.idle()
            await eventually(lambda: not tasks_at_work())
            assert not seen.spans.open


async def test_an_expired_deadline_makes_no_further_call(tmp_path: Path) -> None:
    """Work whose time is over asks nobody."""
    async with running(tmp_path) as mesh:
        late = RequestContext(request_id="late", deadline=time.monotonic() - 1)
        with context.use(late), pytest.raises(shieldmesh.DeadlineExceededError):
            await calls.unary(mesh.inference.ListModels, inference_pb2.ListModelsRequest(), timeout=TIMEOUT)
        with context.use(late), pytest.raises(shieldmesh.DeadlineExceededError):
            await mesh.client.chat("hello", timeout=TIMEOUT).result()
        await calls.unary(mesh.inference.ListModels, inference_pb2.ListModelsRequest(), timeout=TIMEOUT)
        assert [call.context.request_id for call in mesh.served] == [""]


def _request() -> chat_pb2.ChatRequest:
    message = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.ContentPart(text="hello")])
    return chat_pb2.ChatRequest(messages=[message])
