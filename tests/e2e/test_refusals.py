"""Bad input, over the wire and at the start: a clear typed error each, and nobody else notices."""

import asyncio
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest

import shieldmesh
from shieldmesh import errors
from shieldmesh.errors import InvalidArgumentError, MeshError, NotFoundError
from shieldmesh.v1 import chat_pb2, chat_pb2_grpc, generation_pb2, message_pb2
from tests.e2e import policies
from tests.e2e.engine import TIMEOUT
from tests.e2e.mesh import ROOT, Mesh, clean_environment


def user(text: str = "hello", **fields: object) -> message_pb2.Message:
    return message_pb2.Message(
        **{"role": message_pb2.ROLE_USER, "parts": [message_pb2.ContentPart(text=text)], **fields}  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # one message of many forms
    )


class Bad(NamedTuple):
    """A request that is wrong, and what is said about it."""

    request: chat_pb2.ChatRequest
    field: str
    kind: type[MeshError] = InvalidArgumentError
    session: str = ""


BAD = {
    "an unknown profile": Bad(chat_pb2.ChatRequest(profile="none", messages=[user()]), "profile", NotFoundError),
    "no messages": Bad(chat_pb2.ChatRequest(profile="strict"), "messages"),
    "a role that does not exist": Bad(
        chat_pb2.ChatRequest(profile="strict", messages=[user(), user(role=77)]), "messages[1].role"
    ),
    "no role": Bad(chat_pb2.ChatRequest(profile="strict", messages=[user(role=0)]), "messages[0].role"),
    "a message without parts": Bad(
        chat_pb2.ChatRequest(profile="strict", messages=[user(parts=[])]), "messages[0].parts"
    ),
    "sampling out of range": Bad(
        chat_pb2.ChatRequest(profile="strict", messages=[user()], sampling=generation_pb2.Sampling(temperature=2.5)),
        "sampling.temperature",
    ),
    "sampling that is no number": Bad(
        chat_pb2.ChatRequest(
            profile="strict", messages=[user()], sampling=generation_pb2.Sampling(temperature=float("nan"))
        ),
        "sampling.temperature",
    ),
    "an override that the profile forbids": Bad(
        chat_pb2.ChatRequest(profile="strict", messages=[user()], sampling=generation_pb2.Sampling(max_tokens=5)),
        "sampling.max_tokens",
    ),
    "too much text": Bad(chat_pb2.ChatRequest(profile="strict", messages=[user("x" * 60), user("y" * 60)]), "messages"),
    "a session id with a blank": Bad(
        chat_pb2.ChatRequest(profile="strict", messages=[user()]), "metadata.x-session-id", session="two words"
    ),
    "a session id that is too long": Bad(
        chat_pb2.ChatRequest(profile="strict", messages=[user()]), "metadata.x-session-id", session="x" * 129
    ),
}


async def test_bad_requests_are_refused_and_others_notice_nothing(scripted_mesh: Mesh) -> None:
    """Each gets a typed error with the field that is wrong, while a turn beside them runs to its end."""

    async def refused(bad: Bad) -> MeshError:
        metadata = (("x-session-id", bad.session),) if bad.session else ()
        call = stub.Chat(bad.request, metadata=metadata, timeout=TIMEOUT)
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await call.read()
        return errors.from_rpc_error(failure.value)

    async with (
        shieldmesh.connect(scripted_mesh.url) as client,
        client.chat("", profile="brief", timeout=TIMEOUT) as turn,
        grpc.aio.insecure_channel(scripted_mesh.url) as channel,
    ):
        await anext(turn)
        stub = chat_pb2_grpc.ChatServiceStub(channel)
        answers = await asyncio.gather(*map(refused, BAD.values()))
        assert (await turn_text(turn)) == policies.SHORT

    for (what, bad), answer in zip(BAD.items(), answers, strict=True):
        assert type(answer) is bad.kind, what
        assert answer.field == bad.field, what
        assert answer.hops[0].service == "gateway", what
        assert len(answer.message) > 20, what


async def test_what_a_client_says_about_itself_changes_nothing(scripted_mesh: Mesh) -> None:
    """A client's own turn id, tenant, profile, trace and baggage are dropped at the gateway."""
    foreign = (
        ("x-request-id", "mine"),
        ("x-tenant-id", "somebody-else"),
        ("x-profile", "none"),
        ("traceparent", f"00-{'ab' * 16}-{'cd' * 8}-01"),
        ("baggage", "userId=alice"),
        ("x-session-id", "kept"),
    )
    async with grpc.aio.insecure_channel(scripted_mesh.url) as channel:
        rpc = chat_pb2_grpc.ChatServiceStub(channel).Chat
        request = chat_pb2.ChatRequest(profile="repeat", messages=[user()])
        call = rpc(request, metadata=foreign, timeout=TIMEOUT)
        first = await call.read()
        call.cancel()
    assert isinstance(first, chat_pb2.ChatEvent)
    assert first.started.session_id == "kept"
    assert first.started.turn_id not in {"", "mine"}
    assert first.started.trace_id not in {"", "ab" * 16}


@pytest.mark.parametrize("service", ["shield", "inference", "orchestrator", "gateway"])
def test_a_socket_path_that_is_too_long(service: str) -> None:
    """Every service refuses it with one sentence that says what is possible."""
    module = service if service == "gateway" else f"services.{service}"
    said = start(module, {f"SHIELDMESH_{service.upper()}_LISTEN": f"unix:/tmp/{'x' * 110}"})
    assert "at most 107" in said
    assert "choose a shorter directory" in said


def test_a_port_in_use() -> None:
    """The gateway says which address is taken, instead of sharing it."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        said = start("gateway", {"SHIELDMESH_GATEWAY_LISTEN": address})
    assert address in said
    assert "in use" in said


def test_a_profile_that_is_no_yaml(tmp_path: Path) -> None:
    """The orchestrator says which file and line it cannot read."""
    (tmp_path / "broken.yaml").write_text("model: echo\noutput: [")
    said = start("services.orchestrator", {"SHIELDMESH_ORCHESTRATOR_PROFILES": str(tmp_path)})
    assert "broken.yaml" in said
    assert ":2" in said


def test_a_missing_model_file(tmp_path: Path) -> None:
    """The inference service says which file is not there."""
    models = tmp_path / "models.yaml"
    models.write_text(f"models: [{{name: lost, backend: llamacpp, options: {{path: '{tmp_path / 'lost.gguf'}'}}}}]")
    said = start("services.inference", {"SHIELDMESH_INFERENCE_MODELS": str(models)})
    assert "lost.gguf" in said


def test_a_setting_that_does_not_exist() -> None:
    """A misspelt variable is an error that names it, and not ignored."""
    said = start("gateway", {"SHIELDMESH_GATEWAY_LISTNE": "127.0.0.1:1"})
    assert "SHIELDMESH_GATEWAY_LISTNE" in said


def start(module: str, settings: Mapping[str, str]) -> str:
    """What a service says that must refuse to start: in words, with exit code 1, and without a traceback."""
    with tempfile.TemporaryDirectory(prefix="sm-") as directory:
        name = module.removeprefix("services.").upper()
        listen = {f"SHIELDMESH_{name}_LISTEN": f"unix:{directory}/{name}.sock"}
        ended = subprocess.run(  # noqa: S603  # our own program
            [sys.executable, "-m", module],
            cwd=ROOT,
            env={**clean_environment(), **listen, **settings},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    assert ended.returncode == 1, ended
    assert "Traceback" not in ended.stderr
    return ended.stderr


async def turn_text(turn: shieldmesh.Turn) -> str:
    return "".join([event.text async for event in turn if isinstance(event, shieldmesh.Delta)])
