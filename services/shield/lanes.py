"""The lanes of a stream: each a text of its own under the same shields."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Final, TypeAlias

from shieldmesh.errors import InvalidArgumentError
from shieldmesh.flag import Flag
from shieldmesh.v1 import policy_pb2, shield_pb2

from .budget import LatencyBudget
from .inspection import Inspection
from .shield import Shield, SlowShield
from .spans import ShieldSpans
from .translation import Translator

MAX_LANES: Final = 64

Requests: TypeAlias = AsyncIterator[shield_pb2.InspectStreamRequest]


class Lanes:
    """Feeds each text to the inspection of its lane, and tells what came of it."""

    def __init__(
        self,
        shields: Sequence[Shield],
        opening: shield_pb2.InspectOpen,
        spans: ShieldSpans,
        *,
        max_characters: int,
    ) -> None:
        """Opens no lane yet.

        Raises:
            InvalidArgumentError: the opening's latency budget is wrong.
        """
        self._shields = shields
        self._spans = spans
        self._translator = Translator(shields, opening.direction)
        self._pseudonym_key = opening.pseudonym_key
        self._left = max_characters
        self._max_characters = max_characters
        self._lanes: dict[int, Inspection] = {}
        self._slow = any(isinstance(shield, SlowShield) for shield in shields)
        self._news = Flag()
        self._budget: LatencyBudget | None = None
        if opening.HasField("latency_budget"):
            self._budget = LatencyBudget(opening.latency_budget, self._lanes.values())

    def answers(self, requests: Requests) -> AsyncGenerator[shield_pb2.InspectStreamResponse, None]:
        """The state of the lanes of what is asked, whenever there is news. Ends with the requests, or behind a block.

        Raises:
            InvalidArgumentError: a request holds no text, or one that does not continue a lane or is too much.
        """
        return self._in_time(requests) if self._slow else self._at_once(requests)

    async def _at_once(self, requests: Requests) -> AsyncGenerator[shield_pb2.InspectStreamResponse, None]:
        """One answer for each text, as no shield takes its time."""
        async for request in requests:
            number, lane = await self._put(request)
            answer, blocked = self._answer(number, lane)
            yield answer
            if blocked:
                return

    async def _in_time(self, requests: Requests) -> AsyncGenerator[shield_pb2.InspectStreamResponse, None]:
        """An answer whenever a text came or a shield has spoken; what gathers meanwhile is one answer."""
        # No task group: closing a generator inside one would turn the close into an error.
        reading = asyncio.create_task(self._read(requests))
        reading.add_done_callback(lambda _: self._news.set())
        try:
            while True:
                if not self._news.is_set:
                    await self._news.wait()
                self._news.clear()
                last = reading.done() and not any(lane.ended and lane.open for lane in self._lanes.values())
                for number, lane in tuple(self._lanes.items()):
                    if lane.changed:
                        answer, blocked = self._answer(number, lane)
                        yield answer
                        if blocked:
                            return
                if reading.done():
                    reading.result()
                if last:
                    return
        finally:
            reading.cancel()
            await self._close()
            await asyncio.wait([reading])
            if not reading.cancelled():
                reading.exception()  # looked at, or asyncio would complain that nobody did

    async def _read(self, requests: Requests) -> None:
        async for request in requests:
            _, lane = await self._put(request)
            await lane.room()

    async def _put(self, request: shield_pb2.InspectStreamRequest) -> tuple[int, Inspection]:
        """Adds a text to its lane; which that is."""
        text = _text(request)
        # Each field is read once: a message gives a new object each time.
        number, piece = text.lane, text.text
        lane = self._lanes.get(number) or self._open(number, text.part)
        if lane.ended:
            raise InvalidArgumentError("text.lane: the lane has ended; use another one", field="text.lane")
        if (offset := text.offset) != lane.seen:
            message = f"text.offset: expected {lane.seen}, what was sent of the lane before, not {offset}"
            raise InvalidArgumentError(message, field="text.offset")
        self._left -= len(piece)
        if self._left < 0:
            message = f"text.text: a stream takes at most {self._max_characters} characters in all its lanes"
            raise InvalidArgumentError(message, field="text.text")
        await lane.put(piece, end=text.end)
        return number, lane

    def _answer(self, number: int, lane: Inspection) -> tuple[shield_pb2.InspectStreamResponse, bool]:
        """A lane's news, and whether they are the last."""
        release = lane.release()
        if self._budget is not None:
            self._budget.watch()
        holding = lane.holding() if release.watermark < lane.seen else ()
        return self._translator.answer(number, lane.seen, release, holding), release.blocked

    def _open(self, number: int, part: policy_pb2.TextPart.ValueType) -> Inspection:
        if number >= MAX_LANES:
            message = f"text.lane: lanes are numbered 0 to {MAX_LANES - 1}, not {number}"
            raise InvalidArgumentError(message, field="text.lane")
        lane = self._lanes[number] = Inspection(
            self._shields,
            self._spans,
            part=part or policy_pb2.TEXT_PART_CONTENT,
            pseudonym_key=self._pseudonym_key,
            news=self._news.set if self._slow else None,
        )
        if self._budget is not None:
            self._budget.admit(lane)
        return lane

    async def _close(self) -> None:
        if self._budget is not None:
            self._budget.close()
        for lane in self._lanes.values():
            await lane.close()


def _text(request: shield_pb2.InspectStreamRequest) -> shield_pb2.InspectText:
    match request.WhichOneof("request"):
        case "text":
            return request.text
        case "open":
            raise InvalidArgumentError("open: the stream is open already; send text", field="open")
        case _:
            raise InvalidArgumentError("request: a request holds text", field="request")
