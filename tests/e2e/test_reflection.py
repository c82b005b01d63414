"""The gateway as a tool sees it that knows nothing but its address."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from shieldmesh.cli.local.address import claim
from shieldmesh.cli.local.plan import Service
from tests.e2e.engine import TIMEOUT
from tests.e2e.mesh import Mesh, clean_environment

BUF = Path(sys.executable).with_name("buf")
PUBLIC = {
    "grpc.health.v1.Health",
    "grpc.reflection.v1alpha.ServerReflection",
    "shieldmesh.v1.ChatService",
    "shieldmesh.v1.SessionService",
}


async def test_it_lists_the_public_services_alone(tmp_path: Path) -> None:
    """Reflection at a gateway tells of chats, sessions, health and itself, and of nothing behind it."""
    target = claim("127.0.0.1:0")
    gateway = Service("gateway", "gateway", target, {"SHIELDMESH_GATEWAY_LISTEN": target})
    alone = Mesh((gateway,), tmp_path, clean_environment())
    try:
        alone.start()
        assert await services_of(alone) == PUBLIC
        alone.stop()
    finally:
        alone.destroy()


async def test_a_local_mesh_lists_its_diagnostics_too(scripted_mesh: Mesh) -> None:
    """On one machine whoever can call the gateway may see the traces; there is nothing more than that."""
    assert await services_of(scripted_mesh) == PUBLIC | {"shieldmesh.v1.DiagnosticsService"}


async def test_it_streams_a_chat(scripted_mesh: Mesh) -> None:
    """With the schema from reflection alone, a chat streams its events as JSON, from `started` to `finished`."""
    request = {
        "profile": "repeat",
        "messages": [{"role": "ROLE_USER", "parts": [{"text": "mail me at ann@example.com"}]}],
    }
    output = await curl("--data", json.dumps(request), f"http://{scripted_mesh.url}/shieldmesh.v1.ChatService/Chat")
    events = documents(output)
    assert [int(event["sequence"]) for event in events] == list(range(1, len(events) + 1))
    assert "started" in events[0]
    assert events[-1]["finished"]["reason"] == "FINISH_REASON_STOP"
    assert "".join(event.get("delta", {}).get("text", "") for event in events) == "mail me at [EMAIL]"


async def services_of(mesh: Mesh) -> set[str]:
    """What reflection at the gateway lists."""
    return set((await curl("--list-services", f"http://{mesh.url}")).split())


async def curl(*arguments: str) -> str:
    """What `buf curl` prints, over gRPC and HTTP/2 without TLS."""
    process = await asyncio.create_subprocess_exec(
        BUF,
        "curl",
        "--protocol",
        "grpc",
        "--http2-prior-knowledge",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, complaint = await asyncio.wait_for(process.communicate(), TIMEOUT)
    assert process.returncode == 0, complaint.decode()
    return output.decode()


def documents(text: str) -> list[dict[str, Any]]:
    """The JSON documents that follow one another in a text."""
    decoder, found, at = json.JSONDecoder(), list[dict[str, Any]](), 0
    while rest := text[at:].lstrip():
        at = len(text) - len(rest)
        document, length = decoder.raw_decode(rest)
        found.append(document)
        at += length
    return found
