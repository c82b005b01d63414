"""Several texts that have nothing to do with each other, under one set of shields."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from .inspection import Inspection
from .ledger import Release
from .shield import Shield
from .spans import ShieldSpans

AT_ONCE: Final = 32
"""Texts that are inspected side by side."""


async def inspected(
    shields: Sequence[Shield], spans: ShieldSpans, texts: Sequence[str], *, pseudonym_key: bytes = b""
) -> AsyncGenerator[Release]:
    """All that the shields say about each text, in the order of the texts."""

    async def inspect(text: str) -> Release:
        async with Inspection(shields, spans, pseudonym_key=pseudonym_key) as inspection:
            return await inspection.inspect(text)

    if len(texts) == 1:
        yield await inspect(texts[0])  # most often there is one, which needs no task
        return
    for begin in range(0, len(texts), AT_ONCE):
        async with asyncio.TaskGroup() as tasks:
            some = [tasks.create_task(inspect(text)) for text in texts[begin : begin + AT_ONCE]]
        for each in some:
            yield each.result()
