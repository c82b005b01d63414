"""Tool calls through the guards of both ways."""

import json
from collections.abc import Generator
from pathlib import Path

import pytest

import shieldmesh
from shieldmesh import Delta, Finished, FinishReason, Verdict
from shieldmesh.v1 import chat_pb2, message_pb2
from tests.e2e.mesh import Mesh, running

TIMEOUT = 60.0
CARD = "4111 1111 1111 1111"
TOKEN = "ghp_" + "x7Qm2Rk9Vt4Ly8Wp3Zn6Bs1Hd5Fg0JcKaEuT"
"""What looks like a credential."""

MODELS = """
models:
  - name: clerk
    backend: replay
    options:
      text: Done.
      cut: characters
      tool_calls: [{name: pay, arguments: '{"card": "4111 1111 1111 1111", "euros": 5}'}]
"""
POLICY = {
    "model": "clerk",
    "input": {"shields": [{"type": "secrets", "action": "block"}]},
    "output": {"shields": [{"type": "pii", "action": "redact"}]},
}


@pytest.fixture(scope="module")
def clerk(tmp_path_factory: pytest.TempPathFactory) -> Generator[Mesh]:
    """A mesh whose model calls a tool with a card's number."""
    directory = tmp_path_factory.mktemp("clerk")
    (directory / "models.yaml").write_text(MODELS)
    profiles = Path(directory / "profiles")
    profiles.mkdir()
    (profiles / "default.yaml").write_text(json.dumps(POLICY))
    with running(profiles=profiles, models=directory / "models.yaml") as mesh:
        yield mesh


async def test_arguments_are_guarded_as_texts_are(clerk: Mesh) -> None:
    """The call arrives whole, with a placeholder for the card: no fragment of its number does."""
    events = await _turn(clerk, _user("Pay!"))
    fragments = [event.tool_call for event in events if isinstance(event, Delta) and event.tool_call]
    assert [(each.id, each.name) for each in fragments if each.id] == [("call_0", "pay")]
    arguments = "".join(each.arguments for each in fragments)
    assert json.loads(arguments) == {"card": "[PAYMENT_CARD]", "euros": 5}
    assert events[-1].reason is FinishReason.TOOL_CALLS
    assert any(isinstance(event, Verdict) and event.shield == "pii" for event in events)


@pytest.mark.parametrize(
    ("result", "reason", "text"),
    [("paid", FinishReason.STOP, "Done."), (f"paid with {TOKEN}", FinishReason.CONTENT_FILTER, "")],
    ids=["harmless", "a credential"],
)
async def test_results_of_tools_are_guarded_as_input(clerk: Mesh, result: str, reason: FinishReason, text: str) -> None:
    """What a client's tool says reaches the model only if the input shields let it."""
    call = message_pb2.ToolCall(id="call_0", name="pay", arguments='{"euros": 5}')
    events = await _turn(
        clerk,
        _user("Pay!"),
        message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, tool_calls=[call]),
        message_pb2.Message(
            role=message_pb2.ROLE_TOOL, tool_call_id="call_0", parts=[message_pb2.ContentPart(text=result)]
        ),
    )
    assert events[-1].reason is reason
    assert "".join(event.text for event in events if isinstance(event, Delta)) == text


async def _turn(mesh: Mesh, *messages: message_pb2.Message) -> tuple[*tuple[shieldmesh.Event, ...], Finished]:
    """The events of a turn with a tool."""
    request = chat_pb2.ChatRequest(messages=messages, tools=[message_pb2.Tool(name="pay", description="Pays.")])
    async with shieldmesh.connect(mesh.url) as client, client.run(request, timeout=TIMEOUT) as turn:
        *events, last = [event async for event in turn]
    assert isinstance(last, Finished)
    return (*events, last)


def _user(text: str) -> message_pb2.Message:
    return message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.ContentPart(text=text)])
