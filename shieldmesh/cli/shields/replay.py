"""`shieldmesh shields replay`."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shieldmesh.cli import terminal
from shieldmesh.cli.shields.comparison import Cost, Difference, cost, differences
from shieldmesh.cli.shields.playing import Played, play, prepare
from shieldmesh.cli.shields.policies import Guards, Profiles, find
from shieldmesh.cli.shields.service import Stub, Url, ask
from shieldmesh.cli.shields.test import STYLES
from shieldmesh.cli.shields.transcript import Recorded, TranscriptError, read

_AT_ONCE: Final = 16
"""Turns that are played at the same time when their times count: most of those are spent waiting."""


class Pace(StrEnum):
    """How fast deltas are sent."""

    RECORDED = "recorded"
    FAST = "fast"


def replay(
    transcript: Annotated[Path, typer.Argument(help="The recorded turns: a JSON object a line.", exists=True)],
    *,
    policy: Annotated[
        list[str], typer.Option(help="A policy: a profile's name, or its file. Give two or more to compare them.")
    ],
    profiles: Profiles = Path("profiles"),
    pace: Annotated[Pace, typer.Option(help="Send each delta at its time, or as fast as the shields see them.")] = (
        Pace.RECORDED
    ),
    url: Url = "",
    timeout: Annotated[float, typer.Option(help="Seconds that each turn may take.", min=0.001)] = 300.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as a JSON object.")] = False,
) -> None:
    """Play recorded answers through the output shields of policies, and compare what they do and cost.

    Each line of the transcript is a turn: `{"turn": "a-name", "text": "…"}`, which is cut into words, or
    `{"turn": "a-name", "deltas": [{"text": "…", "at": 0.02}, …]}` with seconds from the turn's beginning. Turns without
    times are sent as fast as the shields see them; the wait is then the work of the shields alone.

    For example:

    - `shieldmesh shields replay examples/transcript.jsonl --policy default --policy ./draft.yaml`

    - `shieldmesh shields replay --json t.jsonl --policy a --policy b | jq '.differences[] | select(.turn == "7")'`
    """
    if repeated := sorted({each for each in policy if policy.count(each) > 1}):
        raise typer.BadParameter(f"{repeated[0]} stands there more than once", param_hint="--policy")
    turns = _turns(transcript)
    guards = [find(each, profiles, "output") for each in policy]
    played = ask(url, lambda stub: _play_all(stub, turns, guards, recorded=pace is Pace.RECORDED, seconds=timeout))
    found = differences({turn.name: row for turn, row in zip(turns, played, strict=True)})
    costs = [cost(column) for column in zip(*played, strict=True)]
    if as_json:
        typer.echo(json.dumps(_plain(guards, costs, found, len(turns)), ensure_ascii=False))
    else:
        console = terminal.out()
        _render_costs(guards, costs, len(turns), console)
        _render_differences(guards, found, console)


def _turns(path: Path) -> Sequence[Recorded]:
    try:
        turns = read(str(path), path.read_bytes())
    except TranscriptError as error:
        terminal.fail(str(error))
    except OSError as error:
        terminal.fail(f"{path} cannot be read: {error.strerror}")
    names = [turn.name for turn in turns]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        terminal.fail(f"{path} has more than one turn {repeated[0]}: names must differ")
    return turns


async def _play_all(
    stub: "Stub", turns: Sequence[Recorded], guards: Sequence[Guards], *, recorded: bool, seconds: float
) -> list[list[Played]]:
    """Each turn as each policy played it. Where times are measured and not waited for, nothing runs beside."""
    for each in guards:
        await prepare(stub, each.opening)
    alone, beside = asyncio.Semaphore(1), asyncio.Semaphore(_AT_ONCE)

    async def play_one(turn: Recorded, each: Guards) -> Played:
        timed = recorded and turn.timed
        async with beside if timed else alone:
            played = await play(stub, each.opening, turn.deltas, seconds=seconds, recorded=timed)
        if each.observes:
            played.held, played.waits = [0] * len(played.held), [0.0] * len(played.waits)
        return played

    async def play_turn(turn: Recorded) -> list[Played]:
        return await asyncio.gather(*(play_one(turn, each) for each in guards))

    return await asyncio.gather(*map(play_turn, turns))


def _render_costs(guards: Sequence[Guards], costs: Sequence[Cost], turns: int, console: Console) -> None:
    table = Table.grid(padding=(0, 3))
    table.add_column(no_wrap=True)
    for _ in guards:
        table.add_column(no_wrap=True, justify="right")
    table.add_row(Text(f"{turns:,} turns", style="dim"), *(Text(each.label, style="bold") for each in guards))
    table.add_row("version", *(Text(each.version, style="dim") for each in guards))
    rows = (
        ("turns blocked", [f"{each.blocked:,}" for each in costs]),
        ("findings redacted", [f"{each.redacted:,}" for each in costs]),
        ("failures of shields", [f"{each.failures:,}" for each in costs]),
        ("held characters, mean", [f"{each.held_mean:,.2f}" for each in costs]),
        ("held characters, most", [f"{each.held_most:,}" for each in costs]),
        ("added wait per token, mean", [_milliseconds(each.wait_mean) for each in costs]),
        ("added wait per token, most", [_milliseconds(each.wait_most) for each in costs]),
    )
    for heading, cells in rows:
        table.add_row(heading, *cells)
    console.print(table, soft_wrap=False)


def _render_differences(guards: Sequence[Guards], found: Sequence[Difference], console: Console) -> None:
    console.print()
    if not found:
        console.print("no differences in verdicts" if len(guards) > 1 else "give another --policy to compare with")
        return
    table = Table.grid(padding=(0, 2))
    headings = ("turn", "shield", "kind", "at", *(each.label for each in guards))
    for _ in headings:
        table.add_column(no_wrap=True)
    table.add_row(*(Text(heading, style="dim") for heading in headings))
    for each in found:
        actions = (Text(action or "-", style=STYLES.get(action, "dim")) for action in each.actions)
        place = f"{each.start}-{each.end}" if each.end else ""
        table.add_row(terminal.harmless(each.turn), each.shield, each.kind, place, *actions)
    console.print(table, soft_wrap=False)


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:,.2f} ms"


def _plain(
    guards: Sequence[Guards], costs: Sequence[Cost], found: Sequence[Difference], turns: int
) -> dict[str, object]:
    """Times are seconds."""
    return {
        "turns": turns,
        "policies": [
            {"policy": each.label, "version": each.version, **asdict(what)}
            for each, what in zip(guards, costs, strict=True)
        ],
        "differences": [
            each._asdict() | {"actions": dict(zip((one.label for one in guards), each.actions, strict=True))}
            for each in found
        ],
    }
