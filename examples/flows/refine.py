"""Draft, then refine."""

from collections.abc import AsyncGenerator

from shieldmesh import FlowTurn, Message, Sampling
from shieldmesh.client import Event


async def refine(turn: FlowTurn) -> AsyncGenerator[Event]:
    """A draft that stays inside, then the better answer, token by token.

    Options: `draft_tokens`, the longest draft.
    """
    model = turn.model()
    draft = await model.ask(turn.messages, sampling=Sampling(max_tokens=int(turn.options.get("draft_tokens", 128))))
    better = Message(
        "user", f"{turn.question}\n\nA first answer was: {draft.text}\n\nAnswer again: shorter, clearer and correct."
    )
    async for event in model.chat([*turn.messages[:-1], better]):
        yield event
