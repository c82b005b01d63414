"""`shieldmesh shields list`."""

import json
from collections.abc import Iterable
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shieldmesh import calls
from shieldmesh.cli import terminal
from shieldmesh.cli.shields.service import Stub, Url, ask
from shieldmesh.v1 import shield_pb2


def list_types(
    *,
    url: Url = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the types as a JSON array.")] = False,
) -> None:
    """Show the types of shields that a shield service has, and what they find.

    A type's kind says how much text it needs to see, and so how long text waits for it where it may redact or block:
    match only while a match is open, window for a few sentences, whole for all of the text.

    For example:

    - `shieldmesh shields list`

    - `shieldmesh shields list --url grpc://shields.internal:50052`
    """
    types = ask(url, _types).types
    if as_json:
        fields = ("type", "kind", "description")
        told = [
            {name: getattr(each, name) for name in fields} | {"finding_kinds": list(each.finding_kinds)}
            for each in types
        ]
        typer.echo(json.dumps(told, ensure_ascii=False))
    else:
        _render(types, terminal.out())


async def _types(stub: "Stub") -> shield_pb2.ListShieldsResponse:
    return await calls.unary(stub.ListShields, shield_pb2.ListShieldsRequest(), timeout=10)


def _render(types: Iterable[shield_pb2.ShieldType], console: Console) -> None:
    table = Table.grid(padding=(0, 2))
    for _ in ("type", "kind"):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(*(Text(heading, style="dim") for heading in ("type", "kind", "what it finds")))
    for each in types:
        finds = Text(terminal.harmless(each.description))
        if each.finding_kinds:
            finds.append(f"\n{terminal.harmless(', '.join(each.finding_kinds))}", style="dim")
        table.add_row(Text(each.type, style="bold"), each.kind, finds)
    console.print(table, soft_wrap=False)
