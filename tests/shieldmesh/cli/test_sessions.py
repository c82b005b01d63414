"""`shieldmesh sessions`, against a mesh in this process."""

import asyncio
import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from shieldmesh.cli import build_app
from tests.promises.mesh import Mesh, running

PROFILES: dict[str, dict[str, Any]] = {
    "default": {"history": {"mode": "keep"}},
    "free": {"allow_overrides": ["history"]},
}


async def type_in(mesh: Mesh, *arguments: str) -> Result:
    """What comes of a command line."""
    command = [*arguments, "--url", mesh.target("gateway")]
    return await asyncio.to_thread(CliRunner().invoke, build_app(), command)


async def test_a_conversation_at_a_terminal(tmp_path: Path) -> None:
    """Two chats of one session are shown as one conversation, for people and for programs, and deleted."""
    async with running(tmp_path, profiles=PROFILES) as mesh:
        await type_in(mesh, "chat", "--session", "s", "one")
        await type_in(mesh, "chat", "--session", "s", "--profile", "free", "--history", "keep", "two \x1b[2J")
        shown = await type_in(mesh, "sessions", "show", "s")
        assert shown.stdout.splitlines() == [
            *("user: one", "assistant: one"),
            *("user: two \N{REPLACEMENT CHARACTER}[2J", "assistant: two \N{REPLACEMENT CHARACTER}[2J"),
        ]
        assert "2 turns kept" in shown.stderr
        told = json.loads((await type_in(mesh, "sessions", "show", "s", "--json")).stdout)
        assert told["session_id"] == "s"
        assert [message["text"] for turn in told["turns"] for message in turn["messages"]][:2] == ["one", "one"]
        deleted = await type_in(mesh, "sessions", "delete", "s")
        assert (deleted.exit_code, deleted.stdout) == (0, "")
        gone = await type_in(mesh, "sessions", "show", "s")
        assert gone.exit_code == 1
        assert "there is no such session" in gone.stderr


async def test_a_url_that_is_none(tmp_path: Path) -> None:
    """Is refused as at every other command."""
    async with running(tmp_path) as mesh:
        wrong = await asyncio.to_thread(CliRunner().invoke, build_app(), ["sessions", "show", "s", "--url", "http://x"])
        assert wrong.exit_code == 2
        assert mesh.served == []
