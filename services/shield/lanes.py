"""The lanes of a stream: each a text of its own under the same shields."""

from collections.abc import Sequence
from typing import Final

from shieldmesh.errors import InvalidArgumentError
from shieldmesh.v1 import shield_pb2

from .inspection import Inspection
from .shield import Shield
from .spans import ShieldSpans
from .translation import Translator

MAX_LANES: Final = 64


class Lanes:
    """Feeds each text to the inspection of its lane.

    Attributes:
        blocked: Whether a shield blocked: nothing more is to be said.
    """

    def __init__(
        self, shields: Sequence[Shield], spans: ShieldSpans, translator: Translator, *, max_characters: int
    ) -> None:
        self.blocked = False
        self._shields = shields
        self._spans = spans
        self._translator = translator
        self._left = max_characters
        self._max_characters = max_characters
        self._lanes: dict[int, Inspection] = {}

    async def add(self, text: shield_pb2.InspectText) -> shield_pb2.Clearance:
        """The state of the text's lane with this text.

        Raises:
            InvalidArgumentError: the text does not continue a lane, or is too much.
        """
        lane = self._lane(text)
        release = await lane.feed(text.text, end=text.end)
        self.blocked = release.blocked
        holding = lane.holding() if release.watermark < lane.seen else ()
        return self._translator.clearance(text.lane, lane.seen, release, holding)

    def _lane(self, text: shield_pb2.InspectText) -> Inspection:
        lane = self._lanes.get(text.lane)
        if lane is None:
            if text.lane >= MAX_LANES:
                message = f"text.lane: lanes are numbered 0 to {MAX_LANES - 1}, not {text.lane}"
                raise InvalidArgumentError(message, field="text.lane")
            lane = self._lanes[text.lane] = Inspection(self._shields, self._spans)
        if lane.ended:
            raise InvalidArgumentError("text.lane: the lane has ended; use another one", field="text.lane")
        if text.offset != lane.seen:
            message = f"text.offset: expected {lane.seen}, what was sent of the lane before, not {text.offset}"
            raise InvalidArgumentError(message, field="text.offset")
        self._left -= len(text.text)
        if self._left < 0:
            message = f"text.text: a stream takes at most {self._max_characters} characters in all its lanes"
            raise InvalidArgumentError(message, field="text.text")
        return lane
