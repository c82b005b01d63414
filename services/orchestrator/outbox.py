"""Events on their way to the client: numbered, merged while the client is slow, bounded."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator

from shieldmesh.v1 import chat_pb2, generation_pb2


class Outbox:
    """A queue with one reader. Deltas that wait become one, so a slow client costs fewer messages, not more memory.

    Events are numbered when they are taken: merging leaves no gap.
    """

    def __init__(self, limit: int) -> None:
        """Takes `limit`, the characters that may wait before `room` makes the producer wait."""
        self._limit = limit
        self._waiting: deque[chat_pb2.ChatEvent] = deque()
        self._characters = 0
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._closed = False

    def put(self, event: chat_pb2.ChatEvent) -> None:
        """Adds an event; never waits."""
        if event.HasField("delta"):
            self._characters += len(event.delta.text)
            if self._characters > self._limit:
                self._room.clear()
        if not (self._waiting and _merge(self._waiting[-1], event)):
            self._waiting.append(event)
        self._filled.set()

    async def room(self) -> None:
        """Returns when less text than the limit waits."""
        await self._room.wait()

    def close(self) -> None:
        """Ends the reader's loop once it has taken what waits."""
        self._closed = True
        self._filled.set()

    async def __aiter__(self) -> AsyncGenerator[chat_pb2.ChatEvent]:
        sequence = 0
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._waiting:
                event = self._waiting.popleft()
                if event.HasField("delta"):
                    self._characters -= len(event.delta.text)
                    if self._characters <= self._limit:
                        self._room.set()
                sequence += 1
                event.sequence = sequence
                yield event
            if self._closed:
                return


def _merge(last: chat_pb2.ChatEvent, new: chat_pb2.ChatEvent) -> bool:
    """Appends `new` to `last` when both are deltas of the same text."""
    if not (last.HasField("delta") and new.HasField("delta")):
        return False
    into, delta = last.delta, new.delta
    if into.choice != delta.choice or not _same_text(into, delta):
        return False
    into.text += delta.text
    into.reasoning += delta.reasoning
    if delta.HasField("tool_call"):
        into.tool_call.arguments += delta.tool_call.arguments
    into.token_count += delta.token_count
    return True


def _same_text(into: generation_pb2.Delta, delta: generation_pb2.Delta) -> bool:
    if into.HasField("tool_call") or delta.HasField("tool_call"):
        same_call = into.HasField("tool_call") and delta.HasField("tool_call")
        return same_call and into.tool_call.index == delta.tool_call.index and not delta.tool_call.id
    return bool(into.text) == bool(delta.text) and bool(into.reasoning) == bool(delta.reasoning)
