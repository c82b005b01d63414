"""Transcripts of recorded turns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shieldmesh.cli.shields.transcript import Delta, TranscriptError, read, words


def test_the_forms_of_a_turn() -> None:
    """A turn is a text, deltas, or deltas with times; its name is its line where it says none."""
    content = b"""
{"text": "Hello, world!\\n"}

{"turn": "cut", "deltas": ["a", "", "b"]}
{"turn": "paced", "deltas": [{"text": "a", "at": 0}, {"text": "b", "at": 0.5}]}
{"deltas": []}
"""
    text, cut, paced, empty = read("t.jsonl", content)
    assert (text.name, text.deltas, text.timed) == ("2", (Delta("Hello,"), Delta(" world!"), Delta("\n")), False)
    assert (cut.name, cut.text, cut.timed) == ("cut", "ab", False)
    assert (paced.deltas, paced.timed) == ((Delta("a", 0), Delta("b", 0.5)), True)
    assert (empty.name, empty.deltas) == ("6", ())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"", "holds no turns"),
        (b"{", "not a JSON object"),
        (b"\xff", "not a JSON object"),
        (b"[]", "expected a JSON object"),
        (b"{}", "either text"),
        (b'{"text": "a", "deltas": []}', "either text"),
        (b'{"text": 1}', "text: expected a text"),
        (b'{"turn": 1, "text": "a"}', "turn: expected a text"),
        (b'{"words": "a"}', "words: there is no such field"),
        (b'{"deltas": "a"}', "deltas: expected a list"),
        (b'{"deltas": ["a", 1]}', "deltas[1]: expected a text"),
        (b'{"deltas": ["a", {"text": "b", "at": 1}]}', "deltas[1]: expected a text"),
        (b'{"deltas": [{"text": "a"}]}', "deltas[0]: expected text and at"),
        (b'{"deltas": [{"text": "a", "at": -1}]}', "deltas[0].at: expected seconds"),
        (b'{"deltas": [{"text": "a", "at": NaN}]}', "deltas[0].at: expected seconds"),
        (b'{"deltas": [{"text": "a", "at": 2}, {"text": "b", "at": 1}]}', "deltas[1].at: it lies before"),
        (b'{"text": "\\ud800"}', "text: it holds half of a surrogate pair"),
        (b"[" * 100_000, "recursion"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(line: bytes, message: str) -> None:
    """The file, the line and the field are named."""
    with pytest.raises(TranscriptError) as caught:
        read("t.jsonl", line)
    assert message in str(caught.value)
    assert str(caught.value).startswith("t.jsonl:1: " if line else "t.jsonl ")


@given(st.text())
def test_words_are_the_text(text: str) -> None:
    """Nothing is lost, and no word is empty."""
    assert "".join(delta.text for delta in words(text)) == text
    assert all(delta.text for delta in words(text))
