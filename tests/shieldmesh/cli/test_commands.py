"""The command line as people type it."""

import asyncio
import json
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import shieldmesh
from shieldmesh.cli import build_app
from tests.shieldmesh.client.scripted import (
    ScriptedChat,
    delta,
    engine_failure,
    finished,
    hello,
    redacted,
    serving,
    started,
)


def invoke(*arguments: str, stdin: bytes | str | None = None) -> Result:
    return CliRunner().invoke(build_app(), arguments, input=stdin)


async def chat(server: ScriptedChat, *arguments: str, stdin: bytes | str | None = None) -> Result:
    """`shieldmesh chat` against a scripted gateway."""
    async with serving(server) as url:
        return await asyncio.to_thread(invoke, "chat", "--url", url, "--timeout", "10", *arguments, stdin=stdin)


async def test_chat_prints_the_answer() -> None:
    """The text goes to standard output and nothing else does."""
    result = await chat(ScriptedChat(hello()), "hi")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "Hello world\n", "")


async def test_chat_says_what_is_asked() -> None:
    """Prompt from standard input, system prompt, profile and session arrive at the gateway."""
    server = ScriptedChat(hello())
    await chat(server, "--system", "Be brief.", "--profile", "echo", "--session", "s-1", "-", stdin="ünïcode")
    request = server.requests[0]
    assert request.profile == "echo"
    assert [message.parts[0].text for message in request.messages] == ["Be brief.", "ünïcode"]
    assert server.metadata[0]["x-session-id"] == "s-1"


async def test_chat_shows_verdicts_and_the_call_path() -> None:
    """--trace prints the tree after the answer, and verdicts appear beside it."""
    server = ScriptedChat([started(), delta(2, "My card is "), redacted(3), delta(4, "[PAYMENT_CARD]"), finished(5)])
    result = await chat(server, "--trace", "hi")
    assert result.exit_code == 0
    assert result.stdout == "My card is [PAYMENT_CARD]\n"
    assert "⚑ pii redacted in the output: payment_card at 11-30" in result.stderr
    assert "└─ orchestrator" in result.stderr


async def test_chat_as_json() -> None:
    """--json prints each event as an object."""
    result = await chat(ScriptedChat(hello()), "--json", "hi")
    assert [json.loads(line)["event"] for line in result.stdout.splitlines()] == [
        "started",
        "delta",
        "delta",
        "finished",
    ]


async def test_chat_shows_an_error_with_its_path() -> None:
    """A failure is one message with the hops below it, exit code 1, and no traceback."""
    result = await chat(ScriptedChat([started(), delta(2, "Hel")], error=engine_failure()), "hi")
    assert result.exit_code == 1
    assert result.stdout == "Hel\n"
    assert "✗ the engine failed [INTERNAL ENGINE_FAILED]" in result.stderr
    assert "└─ inference Generate @inf-1" in result.stderr
    assert "Traceback" not in result.stderr


def test_chat_without_a_mesh_says_what_to_start() -> None:
    """Nobody at the address is one sentence and exit code 1."""
    result = invoke("chat", "--url", "unix:/nowhere/mesh.sock", "hi")
    assert result.exit_code == 1
    assert "start a mesh with `shieldmesh up`" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "stdin"),
    [
        (["chat"], None),
        (["chat", "--url", "http://host", "hi"], None),
        (["chat", "--timeout", "0", "hi"], None),
        (["chat", "-"], b"\xff"),
        (["nonsense"], None),
    ],
)
def test_wrong_use_is_exit_code_2(arguments: list[str], stdin: bytes | None) -> None:
    """What the command line cannot mean is refused before anything happens."""
    result = invoke(*arguments, stdin=stdin)
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr


def test_a_bad_session_is_refused() -> None:
    """A session id with other characters is a sentence that names the allowed ones."""
    result = invoke("chat", "--session", "not an id", "hi")
    assert result.exit_code == 1
    assert "1 to 128 characters" in result.stderr


def test_up_without_a_checkout_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The installed package alone cannot start services, and says where they are."""
    package = tmp_path / "site-packages" / "shieldmesh"
    package.mkdir(parents=True)
    monkeypatch.setattr(shieldmesh, "__file__", str(package / "__init__.py"))
    monkeypatch.chdir(tmp_path)
    result = invoke("up")
    assert result.exit_code == 1
    assert "run this in a checkout" in result.stderr


def test_version_is_the_project_s() -> None:
    """The package and pyproject.toml agree on the version."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    assert invoke("version").stdout.startswith(f"shieldmesh {project['version']} ")
