"""A reader of guarded text who does as the contract says."""

from collections.abc import Iterable, Sequence

from services.shield.inspection import Inspection
from services.shield.ledger import Judged, Release
from services.shield.shield import Shield
from services.shield.spans import ShieldSpans


class Outcome:
    """What a reader sees of a text, however it came.

    Attributes:
        text: What left.
        told: The findings that were told, by place.
        blocked: Whether the text ended with a block.
    """

    def __init__(self) -> None:
        self.text = ""
        self.told: list[Judged] = []
        self.blocked = False
        self._watermark = 0

    def take(self, original: str, release: Release) -> None:
        """Applies a release; `original` is all that was sent so far."""
        assert not self.blocked
        assert self._watermark <= release.watermark <= len(original)
        position = self._watermark
        for edit in release.edits:
            assert position <= edit.start < edit.end <= release.watermark
            self.text += original[position : edit.start] + edit.placeholder
            position = edit.end
        self.text += original[position : release.watermark]
        self._watermark = release.watermark
        self.told = sorted([*self.told, *release.findings])
        self.blocked = release.blocked


async def inspect(shields: Sequence[Shield], pieces: Iterable[str]) -> Outcome:
    """What leaves a set of shields of a text that comes in pieces."""
    outcome, original, pieces = Outcome(), "", list(pieces)
    with ShieldSpans(shields) as spans:
        inspection = Inspection(shields, spans)
        for number, piece in enumerate(pieces):
            original += piece
            outcome.take(original, await inspection.feed(piece, end=number == len(pieces) - 1))
            if outcome.blocked:
                break
    return outcome
