"""Windows: a cut that depends on the text alone, loses nothing and is bounded."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.shield.window.windows import Part, Windows
from shieldmesh.profile.options import Window
from tests.services.shield.examples import cut

from .models import WINDOWS

TEXTS = st.lists(
    st.sampled_from(
        [
            "One. ",
            "Two words! ",
            "a",
            "?",
            "“So.” ",
            "\n",
            "\r\n",
            "  ",
            "これ。",
            "「は。」",
            "x" * 40,
            "...",
            "",
            ". ",
        ]
    ),
    max_size=14,
).map("".join)
CUTS = st.lists(st.integers(0, 120), max_size=8)


def parts(window: Window, pieces: list[str]) -> list[Part]:
    """All windows of a text that comes in pieces."""
    windows, found = Windows(window), list[Part]()
    for number, piece in enumerate(pieces):
        found += windows.feed(piece, end=number == len(pieces) - 1)
    return found


@settings(max_examples=300)
@given(WINDOWS, TEXTS, CUTS)
def test_the_cut_depends_on_the_text_alone(window: Window, text: str, cuts: list[int]) -> None:
    """A text has the same windows however it comes, by the character too."""
    whole = parts(window, [text])
    assert parts(window, cut(text, cuts)) == whole
    assert parts(window, [*text, ""]) == whole


@settings(max_examples=150)
@given(WINDOWS, TEXTS)
def test_every_window_is_as_long_as_it_may_be(window: Window, text: str) -> None:
    """Windows cover the text without a gap, begin one behind the other, share an overlap, and none is too long."""
    found = parts(window, [text])
    covered = 0
    for part in found:
        assert part.start <= covered < part.start + len(part.text)
        assert text.startswith(part.text, part.start)
        assert len(part.text) <= window.longest
        covered = part.start + len(part.text)
    assert covered == len(text)
    starts = [part.start for part in found]
    assert starts == sorted(set(starts))
    if window.overlap:
        assert all(b.start < a.start + len(a.text) for a, b in pairwise(found))


@settings(max_examples=100)
@given(WINDOWS, TEXTS)
def test_what_waits_is_bounded_and_cleared_text_is_final(window: Window, text: str) -> None:
    """No more than a window waits, and no later window touches what was cleared."""
    windows = Windows(window)
    for char in text:
        before = windows.cleared
        assert all(part.start >= before for part in windows.feed(char, end=False))
        assert windows.cleared >= before
        assert windows.seen - windows.cleared <= window.longest
    before = windows.cleared
    assert all(part.start >= before for part in windows.feed("", end=True))
    assert windows.cleared == len(text)


@pytest.mark.parametrize(
    ("window", "text", "expected"),
    [
        (Window(size=1, overlap=0), "One. Two!\nThree", ["One.", " Two!", "\nThree"]),
        (Window(size=2, overlap=1), "One. “Two.” Three?", ["One. “Two.”", " “Two.” Three?"]),
        (Window(size=1, overlap=0), "これは。それは「そう。」あれ", ["これは。", "それは「そう。」", "あれ"]),
        (Window(unit="words", size=3, overlap=1), "a b c d e", ["a b c", " c d e"]),
        (Window(unit="characters", size=3, overlap=1), "abcdef", ["abc", "cde", "ef"]),
        (Window(size=1, overlap=0), "Version 1.2 of it. ", ["Version 1.2 of it.", " "]),
        (Window(), "", []),
    ],
)
def test_windows_read_like_text(window: Window, text: str, expected: list[str]) -> None:
    """Sentences end where readers see them end, and blanks belong to what follows."""
    assert [part.text for part in parts(window, [text])] == expected


def test_an_overlap_must_leave_something_new() -> None:
    """A window that would never move on is refused."""
    with pytest.raises(ValueError, match="leaves nothing new in 2 sentences"):
        Window(size=2, overlap=2)
    with pytest.raises(ValueError, match="leaves nothing new in 32 characters"):
        Window(unit="characters", size=40, overlap=33, longest=32)
