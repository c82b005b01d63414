"""Texts with spans underlined."""

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from shieldmesh.cli.shields.marking import Mark, underlined


def shown(text: str, *spans: tuple[int, int], width: int = 80) -> list[str]:
    """What is shown of a text whose spans are numbered."""
    marks = [Mark(start, end, str(number), "") for number, (start, end) in enumerate(spans, 1)]
    return [line.plain for line in underlined(text, marks, width)]


def test_a_span_is_underlined_where_it_stands() -> None:
    """The mark begins with its number, below the first character."""
    assert shown("mail a@b.de now", (5, 11)) == ["mail a@b.de now", "     1━━━━━"]


def test_spans_that_overlap_stand_on_lines_of_their_own() -> None:
    """Those that do not share one."""
    assert shown("abcdefgh", (0, 4), (2, 3), (6, 8)) == ["abcdefgh", "1━━━  3━", "  2"]


def test_lines_without_marks_are_left_out() -> None:
    """A line of dots stands for them; a text without any marks shows nothing."""
    text = "one\ntwo\nthree\nfour\nfive"
    assert shown(text, (4, 7), (14, 18)) == ["⋮", "two↵", "1━━", "⋮", "four↵", "2━━━", "⋮"]
    assert shown(text) == []


def test_a_span_over_lines_is_underlined_on_each() -> None:
    """Its number stands where it begins."""
    assert shown("ab\ncd", (1, 4)) == ["ab↵", " 1━", "cd", "━"]


def test_long_lines_are_cut_at_the_width() -> None:
    """Each row has its marks below."""
    assert shown("abcdefgh", (2, 6), width=4) == ["abcd", "  1━", "efgh", "━━"]


def test_wide_and_hidden_characters() -> None:
    """Marks stand below wide characters as wide, and below what shows nothing there is something."""
    assert shown("漢字a", (1, 3)) == ["漢字a", "  1━━"]
    assert shown("a\u200b\tb\x1b[2J", (1, 2), (4, 5)) == ["a\ufffd b\ufffd[2J", " 1  2"]


@given(st.text(max_size=60), st.data())
def test_nothing_that_is_shown_is_wider_than_the_terminal(text: str, data: st.DataObject) -> None:
    """Whatever the text and the spans: rows fit, and every mark's number is shown once."""
    places = st.integers(0, max(len(text) - 1, 0))
    spans = [(start, start + 1) for start in data.draw(st.lists(places, max_size=4))] if text else []
    lines = shown(text, *spans, width=20)
    assert all(cell_len(line) <= 21 for line in lines)
    marks = "".join(line for line in lines[1::2])
    assert all(str(number) in "".join(lines) + marks for number in range(1, len(spans) + 1))
