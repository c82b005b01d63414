"""Slow shields whose answers are known beforehand, and a caller of the stream that they are part of."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from services.shield.lanes import Lanes
from services.shield.shield import Finding, Progress, Rules, Shield, SlowLane, SlowShield
from services.shield.spans import ShieldSpans
from shieldmesh.v1 import policy_pb2, shield_pb2


class Finder(SlowShield):
    """Finds a word: sentence by sentence as a window shield, at the end (as all of the text) as a whole one.

    Attributes:
        lanes: How many texts it looks at now.
    """

    def __init__(self, rules: Rules, word: str, pause: Callable[[], Awaitable[None]]) -> None:
        """`pause` is awaited before every answer."""
        super().__init__(rules)
        self.word = word
        self.pause = pause
        self.lanes = 0

    def lane(self) -> AbstractAsyncContextManager[SlowLane]:
        return self._lane()

    @asynccontextmanager
    async def _lane(self) -> AsyncGenerator[SlowLane, None]:
        self.lanes += 1
        try:
            yield _Lane(self)
        finally:
            self.lanes -= 1


class _Lane:
    def __init__(self, shield: Finder) -> None:
        self._shield = shield
        self._text = ""
        self._cleared = 0

    async def feed(self, text: str, *, end: bool) -> Progress:
        self._text += text
        await self._shield.pause()
        length = len(self._text)
        if self._shield.rules.kind == "whole":
            findings = [Finding("whole", 0, length, 0.8)] if end and self._shield.word in self._text else []
            self._cleared = length if end else 0
        else:
            begin, self._cleared = self._cleared, length if end else max(self._cleared, self._text.rfind(".") + 1)
            places = (place for place in range(begin, self._cleared) if self._text.startswith(self._shield.word, place))
            findings = [Finding("word", place, place + len(self._shield.word), 0.9) for place in places]
        return Progress(tuple(findings), self._cleared, self._cleared)


@dataclass
class Heard:
    """What a caller hears of one lane, who does what the contract says.

    Attributes:
        text: What may leave, with its edits.
        verdicts: What was told, in order: shield, action, and the finding's kind or the error.
        watermark: What was cleared.
    """

    text: str = ""
    verdicts: list[tuple[str, int, str]] = field(default_factory=list[tuple[str, int, str]])
    watermark: int = 0

    def take(self, original: str, clearance: shield_pb2.Clearance) -> None:
        """Applies a clearance; `original` is all that was sent so far."""
        assert not self.blocked
        assert self.watermark <= clearance.watermark <= clearance.seen <= len(original)
        place = self.watermark
        for edit in clearance.edits:
            assert place <= edit.start < edit.end <= clearance.watermark
            self.text += original[place : edit.start] + edit.replacement
            place = edit.end
        self.text += original[place : clearance.watermark]
        self.watermark = clearance.watermark
        for verdict in clearance.verdicts:
            reasons = [verdict.error] if verdict.error else [each.kind for each in verdict.findings]
            self.verdicts += [(verdict.shield, verdict.action, reason) for reason in reasons]

    @property
    def blocked(self) -> bool:
        """Whether the stream ended with a block."""
        return any(action == policy_pb2.ACTION_BLOCK for _, action, _ in self.verdicts)


async def hear(
    shields: Sequence[Shield],
    pieces: Iterable[str],
    *,
    pause: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(0),
    when: Callable[[shield_pb2.Clearance], object] = lambda _: None,
    **opening: Any,  # fields of InspectOpen
) -> Heard:
    """What a caller hears who sends the pieces as one lane, with a pause before each; `when` sees each answer."""
    heard, sent = Heard(), ""

    async def requests() -> AsyncGenerator[shield_pb2.InspectStreamRequest, None]:
        nonlocal sent
        for piece in pieces:
            await pause()
            offset, sent = len(sent), sent + piece
            yield shield_pb2.InspectStreamRequest(text=shield_pb2.InspectText(lane=0, offset=offset, text=piece))
        yield shield_pb2.InspectStreamRequest(text=shield_pb2.InspectText(lane=0, offset=len(sent), end=True))

    opened = shield_pb2.InspectOpen(direction=policy_pb2.DIRECTION_OUTPUT, **opening)
    with ShieldSpans(shields, opened.direction) as spans:
        lanes = Lanes(shields, opened, spans, max_characters=1_000_000)
        async with asyncio.timeout(30), aclosing(lanes.answers(requests())) as answers:
            async for answer in answers:
                heard.take(sent, answer.clearance)
                when(answer.clearance)
    return heard
