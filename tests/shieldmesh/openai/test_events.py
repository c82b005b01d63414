"""Events are cut out of bytes, wherever the reads are cut."""

from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shieldmesh.openai.events import LONGEST_EVENT, EventParser, EventTooLongError

STREAM = (
    "data: one\n\n: hello\n\nevent: x\ndata:two 🦜\ndata\ndata: three\u2028four\n\nid: 1\n\ndata: five\n\ndata: six\n"
)
EXPECTED = ["one", "two 🦜\n\nthree\u2028four", "five"]


@settings(max_examples=100)
@given(
    cuts=st.lists(st.integers(0, len(STREAM.encode()) * 2), max_size=30), ending=st.sampled_from(["\n", "\r", "\r\n"])
)
@example(cuts=list(range(300)), ending="\r\n")
def test_neither_cuts_nor_line_ends_change_what_is_read(cuts: list[int], ending: str) -> None:
    """Any cut of the stream, with any of the three ends of lines, gives the same events."""
    stream = STREAM.replace("\n", ending).encode()
    # What follows a lone CR at the very end is not known; one more line settles it.
    stream += b":"
    parser = EventParser()
    bounds = [0, *sorted(cuts), len(stream)]
    events = [event for start, end in pairwise(bounds) for event in parser.feed(stream[start:end])]
    assert [event.decode() for event in events] == EXPECTED


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 60_000, b"data: " + b"x" * 60_000 + b"\n"])
def test_an_event_that_does_not_end_is_given_up(piece: bytes) -> None:
    """In one line or in many, what is kept of an event is bounded."""
    parser = EventParser()
    for _ in range(LONGEST_EVENT // len(piece)):
        assert parser.feed(piece) == []
    with pytest.raises(EventTooLongError):
        parser.feed(piece * 2)
