"""Route by a classifier."""

from collections.abc import AsyncGenerator, Mapping

import shieldmesh
from shieldmesh import FlowTurn, Message, Sampling
from shieldmesh.client import Event


async def route(turn: FlowTurn) -> AsyncGenerator[Event]:
    """A model says what kind of question it is, and another one answers it with the words for that kind.

    Modules: `classifier`. Options: `routes`, the instructions for each kind; the first is for what fits none.
    """
    routes: Mapping[str, str] = turn.options["routes"]
    answer = await turn.model("classifier").ask(
        f"Question: {turn.question}\n\nWhich kind of question is this: {', '.join(routes)}? Say one word.",
        sampling=Sampling(temperature=0.0, max_tokens=8),
    )
    said = answer.text.lower()
    kind = next((each for each in routes if each in said), next(iter(routes)))
    shieldmesh.progress("route", {"kind": kind})
    async for event in turn.model().chat([Message("system", routes[kind]), *turn.messages]):
        yield event
