"""Asking a scripted server, and what comes of it."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from services.inference.backend import Finish, FinishReason, Generation, GenerationRequest, Message, Output
from services.inference.openai.backend import OpenAIBackend
from shieldmesh.errors import MeshError
from tests.services.inference.serving import TIMEOUT

from .upstream import Upstream, options

SECRET = "xanadu"
"""What users and servers say in these tests: no error may hold it."""
REQUEST = GenerationRequest((Message("user", SECRET),))


def asking(server: Upstream, **changes: Any) -> Generation:
    return opened(server, **changes).generate(REQUEST)


def opened(server: Upstream, **changes: Any) -> OpenAIBackend:
    return OpenAIBackend("model", options(server, **changes))


async def play_all(generation: Generation) -> tuple[str, FinishReason]:
    """The whole text, and why it ended."""
    async with asyncio.timeout(TIMEOUT), aclosing(generation.batches()) as batches:
        steps = [step async for batch in batches for step in batch]
    assert isinstance(steps[-1], Finish)
    return "".join(step.text for step in steps if isinstance(step, Output)), steps[-1].reason


async def failure(generation: Generation) -> tuple[list[str], MeshError]:
    """The texts that came, and the error after them."""
    texts: list[str] = []
    try:
        async with asyncio.timeout(TIMEOUT), aclosing(generation.batches()) as batches:
            async for batch in batches:
                texts += [step.text for step in batch if isinstance(step, Output)]
    except MeshError as error:
        return texts, error
    pytest.fail("it did not fail")
