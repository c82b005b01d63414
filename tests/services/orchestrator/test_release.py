"""What leaves of a text, and what never does."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.orchestrator.release import Edit, Lane
from shieldmesh.errors import InternalError


@dataclass(frozen=True)
class Course:
    """A text as it is cut, what is replaced in it, and how far it is cleared after each piece."""

    pieces: Sequence[str]
    edits: Sequence[Edit]
    watermarks: Sequence[int]

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def expected(self) -> str:
        """The text with its edits applied, by the shortest way that is right."""
        text = self.text
        for edit in reversed(self.edits):
            text = text[: edit.start] + edit.replacement + text[edit.end :]
        return text


@st.composite
def courses(draw: st.DrawFn) -> Course:
    """Any pieces, any edits that do not overlap, any clearances that a right shield service could send."""
    pieces = draw(st.lists(st.text(max_size=8), min_size=1, max_size=8))
    length = sum(map(len, pieces))
    bounds = sorted(draw(st.sets(st.integers(0, length), max_size=8)))
    edits = [Edit(start, end, draw(st.text(max_size=4))) for start, end in zip(bounds[::2], bounds[1::2], strict=False)]
    free = [at for at in range(length + 1) if not any(edit.start < at < edit.end for edit in edits)]
    watermarks: list[int] = []
    written = 0
    for piece in pieces:
        written += len(piece)
        low = watermarks[-1] if watermarks else 0
        watermarks.append(draw(st.sampled_from([at for at in free if low <= at <= written])))
    return Course(pieces, edits, watermarks)


@settings(max_examples=200)
@given(courses())
def test_what_leaves_is_the_text_with_its_edits(course: Course) -> None:
    """Whatever the cuts and clearances: released text is exact, ahead of no watermark, and every character counted."""
    lane, out, before, written, tokens = Lane(), "", 0, 0, 0
    for number, (piece, watermark) in enumerate(zip(course.pieces, course.watermarks, strict=True)):
        assert lane.add(piece, 1, float(number)) == written
        written += len(piece)
        edits = [edit for edit in course.edits if before <= edit.start and edit.end <= watermark]
        release = lane.clear(watermark, edits, float(number))
        out, tokens, before = out + release.text, tokens + release.tokens, watermark
        assert course.expected.startswith(out)
        assert lane.written == written
        assert lane.held == written - watermark
        assert lane.released + lane.redacted + lane.held == lane.written
    last = [edit for edit in course.edits if before <= edit.start]
    release = lane.clear(written, last, 100.0)
    assert out + release.text == course.expected
    assert tokens + release.tokens == len(course.pieces)
    assert lane.redacted == sum(edit.end - edit.start for edit in course.edits)
    assert (lane.held, lane.released) == (0, written - lane.redacted)


@pytest.mark.parametrize(
    ("watermark", "edits"),
    [
        (3, []),
        (11, []),
        (8, [Edit(6, 9, "X")]),
        (8, [Edit(3, 5, "X")]),
        (8, [Edit(4, 6, "X"), Edit(5, 7, "Y")]),
        (8, [Edit(6, 7, "X"), Edit(4, 5, "Y")]),
        (8, [Edit(6, 6, "X")]),
        (8, [Edit(7, 6, "X")]),
    ],
    ids=["back", "ahead", "beyond", "before", "overlapping", "unordered", "empty", "backwards"],
)
def test_a_contradictory_clearance_releases_nothing(watermark: int, edits: list[Edit]) -> None:
    """A watermark that goes back or ahead of the text, or an edit out of its place, is an error of the shields."""
    lane = Lane()
    lane.add("0123456789", 1, 0.0)
    lane.clear(4, [], 0.0)
    with pytest.raises(InternalError) as failure:
        lane.clear(watermark, edits, 0.0)
    assert failure.value.reason == "SHIELD_BROKEN"


def test_it_knows_what_was_held_and_for_how_long() -> None:
    """The longest wait of a piece, and the most text that shields kept after they had seen it."""
    lane = Lane()
    lane.add("one ", 1, 10.0)
    lane.add("two ", 1, 11.0)
    lane.clear(2, [], 12.0)
    lane.note_hold(8)
    assert lane.most_held == 6
    lane.clear(8, [], 14.5)
    lane.note_hold(8)
    assert (lane.most_held, lane.longest_hold) == (6, 4.5)


def test_a_token_counts_when_its_last_character_is_out() -> None:
    """A piece that is out in part counts with the rest of it."""
    lane = Lane()
    lane.add("abc", 2, 0.0)
    lane.add("def", 3, 0.0)
    assert [lane.clear(at, [], 0.0).tokens for at in (2, 3, 5, 6)] == [0, 2, 0, 3]
