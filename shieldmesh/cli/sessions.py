"""`shieldmesh sessions`: conversations whose history the mesh keeps."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Final, TypeAlias

import typer
from rich.console import Console
from rich.text import Text

from shieldmesh.cli import terminal
from shieldmesh.client.conversation import Message
from shieldmesh.client.sessions import SessionRecord, SessionTurn
from shieldmesh.client.sync import SyncMesh, connect_sync
from shieldmesh.client.url import DEFAULT_URL
from shieldmesh.errors import MeshError

TIMEOUT: Final = 10.0
"""Seconds that a question may take."""
_STYLES: Final = {"user": "bold", "tool": "cyan"}

_Session: TypeAlias = Annotated[str, typer.Argument(help="The session's id, as `chat --session` took it.")]
_Url: TypeAlias = Annotated[
    str, typer.Option(help="The mesh: mesh://host:port or unix:/path.", envvar="SHIELDMESH_URL")
]


def build_group() -> typer.Typer:
    """The group with its subcommands."""
    group = typer.Typer(
        help="Look at conversations whose history the mesh keeps, and delete them.",
        epilog="A mesh keeps them where a profile's `history` says so: docs/sessions.md.",
        no_args_is_help=True,
    )
    group.command("show")(show)
    group.command("delete")(delete)
    return group


def show(
    session: _Session,
    *,
    url: _Url = DEFAULT_URL,
    as_json: Annotated[bool, typer.Option("--json", help="Print the session as a JSON object.")] = False,
) -> None:
    """Show what is kept of a conversation: what its models saw and said, behind the shields.

    For example:

    - `shieldmesh sessions show ada-1`

    - `shieldmesh sessions show ada-1 --json | jq '.turns[-1].messages'`
    """
    with _asking(url) as mesh:
        record = mesh.get_session(session, timeout=TIMEOUT)
        turns = list(mesh.list_session_turns(session, timeout=TIMEOUT))
    if as_json:
        told = asdict(record) | {"turns": list(map(asdict, turns))}
        typer.echo(json.dumps(told, ensure_ascii=False, default=str))
    else:
        _render(record, turns, terminal.out(), terminal.notes())


def delete(session: _Session, *, url: _Url = DEFAULT_URL) -> None:
    """Delete a conversation with all that is kept of it, in the turn log, too. Turns of it that run are stopped.

    For example:

    - `shieldmesh sessions delete ada-1`
    """
    with _asking(url) as mesh:
        mesh.delete_session(session, timeout=TIMEOUT)
    terminal.notes().print(Text(f"✓ {session} is deleted", style="green"))


@contextmanager
def _asking(url: str) -> Generator[SyncMesh]:
    try:
        mesh = connect_sync(url)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--url") from None
    with mesh:
        try:
            yield mesh
        except MeshError as error:
            terminal.fail_with(error)


def _render(record: SessionRecord, turns: list[SessionTurn], out: Console, notes: Console) -> None:
    for turn in turns:
        for message in turn.messages:
            out.print(_line(message))
    kept = f"{record.turns} turns kept, deleted at {record.expires_at:%Y-%m-%d %H:%M} UTC unless it goes on"
    notes.print(Text(f"… {kept}", style="dim"))


def _line(message: Message) -> Text:
    called = "".join(f" {call.name}({call.arguments})" for call in message.tool_calls)
    said = terminal.harmless(f"{message.text}{called}".strip())
    return Text.assemble((f"{message.role}: ", "dim"), (said, _STYLES.get(message.role, "")))
