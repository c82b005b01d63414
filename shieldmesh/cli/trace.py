"""`shieldmesh trace`."""

import asyncio
import json
from typing import Annotated

import typer

from shieldmesh import errors
from shieldmesh.cli import terminal
from shieldmesh.cli.waterfall import render
from shieldmesh.client.url import DEFAULT_URL, parse_url
from shieldmesh.diagnostics.recollection import recollect
from shieldmesh.diagnostics.waterfall import waterfall
from shieldmesh.errors import MeshError
from shieldmesh.v1.diagnostics_pb2 import GetTraceResponse, Span


def trace(
    turn: Annotated[str, typer.Argument(help="The turn's id, as `chat --trace` and every log line name it.")],
    *,
    url: Annotated[
        str, typer.Option(help="The mesh: mesh://host:port or unix:/path.", envvar="SHIELDMESH_URL")
    ] = DEFAULT_URL,
    as_json: Annotated[bool, typer.Option("--json", help="Print the spans as a JSON object.")] = False,
) -> None:
    """Show where the time of a turn went: services, shields, queue and engine, from the running mesh itself.

    Each service keeps the spans of its last turns in memory; no tracing backend is needed. What failed is marked.

    For example:

    - `shieldmesh trace 01a1fd63-081e-7340-83da-5bcbfaf3aad0`

    - `shieldmesh trace --json "$TURN" | jq '.spans[] | select(.failed)'`
    """
    try:
        target = parse_url(url)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--url") from None
    try:
        found = asyncio.run(recollect(target, turn))
    except MeshError as error:
        terminal.fail_with(error)
    if as_json:
        typer.echo(json.dumps(_plain(turn, found), ensure_ascii=False))
    else:
        render(waterfall(found.spans), terminal.out())
        if found.forgotten:
            terminal.notes().print(f"[yellow]{found.forgotten} more spans were forgotten: the turn had too many[/]")


def _plain(turn: str, found: GetTraceResponse) -> dict[str, object]:
    return {"turn_id": turn, "spans": [_span(span) for span in found.spans], "forgotten": found.forgotten}


def _span(span: Span) -> dict[str, object]:
    """One span; times are seconds."""
    return {
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "parent_span_id": span.parent_span_id,
        "name": span.name,
        "service": span.service,
        "instance": span.instance,
        "kind": span.kind,
        "start": span.start.ToJsonString(),
        "duration": errors.seconds(span.duration),
        "failed": span.failed,
        "attributes": dict(sorted(span.attributes.items())),
    }
