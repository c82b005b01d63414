"""`shieldmesh shields test`."""

import asyncio
import json
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shieldmesh import calls
from shieldmesh.cli import terminal
from shieldmesh.cli.shields.marking import Mark, underlined
from shieldmesh.cli.shields.playing import Played, Seen, play, seen_in
from shieldmesh.cli.shields.policies import Guards, Profiles, Way, find
from shieldmesh.cli.shields.service import Stub, Url, ask
from shieldmesh.cli.shields.transcript import Delta
from shieldmesh.v1 import policy_pb2, shield_pb2

STYLES: Final = {"allow": "dim", "flag": "cyan", "redact": "yellow", "block": "bold red"}
_TIMEOUT: Final = 60.0


class Tested(NamedTuple):
    """What was learnt about a text."""

    findings: list[Seen]
    """What each shield sees, each with the action that its policy gives to it."""
    played: Played
    """What comes of the text."""


def inspect(
    text: Annotated[str, typer.Argument(help="The text; - reads it from standard input.")],
    *,
    profile: Annotated[str, typer.Option(help="The policy: a profile's name, or its file.")] = "default",
    profiles: Profiles = Path("profiles"),
    direction: Annotated[Way, typer.Option(help="The way that the text travels.")] = "output",
    url: Url = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print it as a JSON object.")] = False,
) -> None:
    """Show what each shield of a policy sees in a text, and what would leave.

    Each finding is shown with its place, its score and the action that the policy gives to it, also where another
    finding would have stopped the text before. The profile's file is read here: it need not be the running mesh's.

    For example:

    - `shieldmesh shields test "Mail jane@example.org, card 4111 1111 1111 1111"`

    - `shieldmesh shields test --profile ./draft.yaml --direction input - < prompt.txt`
    """
    content = terminal.read_standard_input("TEXT") if text == "-" else _valid(text)
    guards = find(profile, profiles, direction)
    tested = ask(url, lambda stub: _test(stub, guards, content))
    if as_json:
        typer.echo(json.dumps(_plain(guards, direction, tested), ensure_ascii=False))
    else:
        _render(guards, direction, content, tested, terminal.out())


def _valid(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise typer.BadParameter("it is not valid Unicode", param_hint="TEXT") from None
    return text


async def _test(stub: "Stub", guards: Guards, text: str) -> Tested:
    request = shield_pb2.InspectRequest(
        shields=map(_flagging, guards.opening.shields), direction=guards.opening.direction, texts=[text]
    )
    answer, played = await asyncio.gather(
        calls.unary(stub.Inspect, request, timeout=_TIMEOUT),
        play(stub, guards.opening, [Delta(text)], seconds=_TIMEOUT),
    )
    found = (each for verdict in answer.verdicts for each in seen_in(verdict))
    return Tested(
        sorted(
            (
                each if each.failed else each._replace(action=guards.action_for(each.shield, each.kind, each.score))
                for each in found
            ),
            key=lambda each: (each.start, -each.end),
        ),
        played,
    )


def _flagging(spec: policy_pb2.ShieldSpec) -> policy_pb2.ShieldSpec:
    """The shield as one that reports all that it sees, and hinders no other."""
    flagging = policy_pb2.ShieldSpec()
    flagging.CopyFrom(spec)
    flagging.action = policy_pb2.ACTION_FLAG
    flagging.on_error = policy_pb2.ON_ERROR_OPEN
    flagging.action_by_kind.clear()
    del flagging.thresholds[:]
    return flagging


def _render(guards: Guards, way: Way, text: str, tested: Tested, console: Console) -> None:
    names = [shield.name for shield in guards.shields]
    told = f"{len(names)} shields: {', '.join(names)}" if names else "no shields"
    console.print(Text(f"{guards.label} ({guards.version}), {way}, {told}", style="dim"))
    found = [each for each in tested.findings if not each.failed]
    marks = [Mark(each.start, each.end, str(number), STYLES[each.action]) for number, each in enumerate(found, 1)]
    for line in underlined(text, marks, console.width):
        console.print(line, soft_wrap=True)
    if found:
        console.print(_table(found), soft_wrap=False)
    for each in tested.findings:
        if each.failed:
            console.print(Text(f"✗ {each.shield} failed: {each.kind}", style="bold red"))
    if silent := [name for name in names if all(each.shield != name for each in tested.findings)]:
        console.print(Text(f"saw nothing: {', '.join(silent)}", style="dim"))
    _render_end(way, guards, tested.played, console)


def _table(found: list[Seen]) -> Table:
    table = Table.grid(padding=(0, 2))
    for heading in ("", "shield", "kind", "at", "score", "action"):
        table.add_column(Text(heading, style="dim"), no_wrap=True)
    table.add_row(*(Text(heading, style="dim") for heading in ("", "shield", "kind", "at", "score", "action")))
    for number, each in enumerate(found, 1):
        style = STYLES[each.action]
        place, score = f"{each.start}-{each.end}", f"{each.score:.2f}"
        table.add_row(str(number), each.shield, each.kind, place, score, Text(each.action, style=style))
    return table


def _render_end(way: Way, guards: Guards, played: Played, console: Console) -> None:
    leaving = Text(terminal.harmless(played.text))
    if not played.blocked:
        console.print(Text.assemble(("leaves: ", "bold green"), leaving))
        return
    who = ", ".join(dict.fromkeys(each.shield for each in played.seen if each.action == "block"))
    if way == "input":
        console.print(Text(f"■ {who} blocks the request", style="bold red"))
    else:
        console.print(Text(f"■ {who} blocks from character {played.watermark} on", style="bold red"))
        console.print(Text.assemble(("leaves: ", "bold green"), leaving))
    if guards.observes:
        console.print(Text("the policy observes: what has left by then is not called back", style="yellow"))


def _plain(guards: Guards, way: Way, tested: Tested) -> dict[str, object]:
    fields = ("shield", "kind", "start", "end", "score", "action")
    return {
        "profile": guards.label,
        "version": guards.version,
        "direction": way,
        "findings": [{name: getattr(each, name) for name in fields} for each in tested.findings if not each.failed],
        "failures": [{"shield": each.shield, "error": each.kind} for each in tested.findings if each.failed],
        "blocked": tested.played.blocked,
        "leaves": "" if way == "input" and tested.played.blocked else tested.played.text,
    }
