"""`shieldmesh chat`."""

import asyncio
import time
from typing import Annotated, Protocol

import typer

from shieldmesh.cli import terminal
from shieldmesh.cli.answer import JsonAnswer, ReadableAnswer
from shieldmesh.cli.calltree import CallTree, call_tree, render
from shieldmesh.client.conversation import Message
from shieldmesh.client.events import Event, Finished, Started
from shieldmesh.client.mesh import connect
from shieldmesh.client.request import DEFAULT_TIMEOUT, History
from shieldmesh.client.turn import Turn
from shieldmesh.client.url import DEFAULT_URL
from shieldmesh.errors import MeshError


class Answer(Protocol):
    """Is shown a turn."""

    def show(self, event: Event) -> None:
        """Shows one event."""

    def end_line(self) -> None:
        """Ends a line that was begun."""


def chat(
    prompt: Annotated[str, typer.Argument(help="What to say; - reads it from standard input.")],
    *,
    url: Annotated[
        str, typer.Option(help="The mesh: mesh://host:port or unix:/path.", envvar="SHIELDMESH_URL")
    ] = DEFAULT_URL,
    profile: Annotated[str, typer.Option(help="The policy to use.")] = "default",
    session: Annotated[str, typer.Option(help="The conversation this belongs to; without it a new one.")] = "",
    history: Annotated[
        History | None, typer.Option(help="Whether the mesh keeps the conversation, where the profile lets you say it.")
    ] = None,
    var: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE: a variable of the profile's prompt. May be repeated.")
    ] = None,
    system: Annotated[str, typer.Option(help="Instructions that come before the prompt.")] = "",
    trace: Annotated[bool, typer.Option("--trace", help="Print the way the turn took, with times.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print each event as a JSON object.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds that the turn may take.", min=0.001)] = DEFAULT_TIMEOUT,
) -> None:
    """Say something and watch the guarded answer come.

    The answer goes to standard output as it arrives. What the shields did, the call path and errors go to standard
    error. Ctrl-C cancels the turn, down to the engine.

    For example:

    - `shieldmesh chat "Why is the sky blue?"`

    - `shieldmesh chat --profile echo --trace "My card is 4111 1111 1111 1111."`

    - `git diff | shieldmesh chat --system "Review this change." -`

    - `shieldmesh chat --json "Hello" | jq -r 'select(.event == "delta").text'`
    """
    text = terminal.read_standard_input("PROMPT") if prompt == "-" else prompt
    messages = [Message("system", system)] if system else []
    messages.append(Message("user", text))
    out = terminal.out()
    answer = JsonAnswer(out) if as_json else ReadableAnswer(out, terminal.notes())
    try:
        mesh = connect(url)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--url") from None
    try:
        turn = mesh.chat(
            messages,
            profile=profile,
            session=session,
            history=history,
            variables=_variables(var or []),
            timeout=timeout,
        )
        tree = asyncio.run(converse(turn, answer))
    except MeshError as error:
        answer.end_line()
        terminal.fail_with(error)
    except KeyboardInterrupt:
        answer.end_line()
        terminal.fail("cancelled: the turn was stopped", code=130)
    if trace and tree is not None:
        render(tree, terminal.notes())


def _variables(options: list[str]) -> dict[str, str]:
    variables: dict[str, str] = {}
    for option in options:
        name, separator, value = option.partition("=")
        if not name or not separator or name in variables:
            raise typer.BadParameter("expected NAME=VALUE, each name once", param_hint="--var")
        variables[name] = value
    return variables


async def converse(turn: Turn, answer: Answer) -> CallTree | None:
    """Shows a turn as it happens; the value is its call tree, None when it did not say enough for one.

    Raises:
        MeshError: the mesh could not do its job.
    """
    begin = time.monotonic()
    started: Started | None = None
    tree: CallTree | None = None
    async with turn:
        async for event in turn:
            answer.show(event)
            if isinstance(event, Started):
                started = event
            elif isinstance(event, Finished) and started is not None:
                tree = call_tree(started, event, time.monotonic() - begin)
    return tree
