"""What a server said at the end of a generation is heard, also where a write that failed came first."""

import asyncio
from typing import Any

from shieldmesh.ending import GenerationEnding
from shieldmesh.errors import USAGE_KEY
from shieldmesh.interceptors.client import WRITE_FAILED
from shieldmesh.v1 import generation_pb2

TIMEOUT = 60.0


class Call:
    """A call of grpc.aio whose status comes into it without a word."""

    def __init__(self, details: str, usage: generation_pb2.Usage | None = None) -> None:
        self.said = details
        self.usage = usage

    async def details(self) -> str:
        return self.said

    async def trailing_metadata(self) -> list[tuple[str, bytes]]:
        return [] if self.usage is None else [(USAGE_KEY, self.usage.SerializeToString())]


async def test_what_comes_after_a_failed_write_is_heard() -> None:
    """The only callback tells of the write; the account of the server is waited for, and found."""
    ending = GenerationEnding()
    call: Any = Call(WRITE_FAILED)
    ending.note(call)
    hearing = asyncio.create_task(ending.heard(call))
    await asyncio.sleep(0)
    assert not hearing.done()
    call.said, call.usage = "the engine failed", generation_pb2.Usage(completion_tokens=7)
    await asyncio.wait_for(hearing, TIMEOUT)
    assert ending.usage is not None
    assert ending.usage.completion_tokens == 7


async def test_what_was_told_is_heard_at_once() -> None:
    """An end without an account is one, too; a failed write that follows it takes nothing away."""
    ending = GenerationEnding()
    call: Any = Call("")
    ending.note(call)
    call.said = WRITE_FAILED
    await asyncio.wait_for(ending.heard(call), TIMEOUT)
    assert ending.usage is None
