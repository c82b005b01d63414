"""Ask two models, and choose."""

import asyncio
from collections.abc import AsyncGenerator

from shieldmesh import FlowTurn, Sampling


async def choose(turn: FlowTurn) -> AsyncGenerator[str]:
    """Two models answer at the same time, and a judge says whose answer the user gets.

    Modules: `bold` and `sober`, who answer. Options: `tokens`, the longest answer. The profile's own model is the
    judge; where it says neither, the first one wins.
    """
    tokens = int(turn.options.get("tokens", 64))
    async with asyncio.TaskGroup() as tasks:
        asked = [
            tasks.create_task(turn.model(name).ask(turn.messages, sampling=sampling))
            for name, sampling in (
                ("bold", Sampling(temperature=1.0, max_tokens=tokens)),
                ("sober", Sampling(temperature=0.3, max_tokens=tokens)),
            )
        ]
    first, second = (task.result().text for task in asked)
    verdict = await turn.model().ask(
        f"Question: {turn.question}\n\nAnswer A: {first}\n\nAnswer B: {second}\n\n"
        "Which answer is better? Say A or B and nothing else.",
        sampling=Sampling(temperature=0.0, max_tokens=4),
    )
    yield second if verdict.text.strip().startswith("B") else first
