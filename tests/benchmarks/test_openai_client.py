"""The reader of streamed answers, which is our own because it must cost next to nothing."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.openai_client import SseError, SseReader

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
EVENTS = [b'{"a": 1}', b"[DONE]", "é".encode()]


def chunked(body: bytes, size: int) -> bytes:
    pieces = (body[at : at + size] for at in range(0, len(body), size))
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n"


@given(size=st.integers(1, 60), cuts=st.lists(st.integers(0, 400), max_size=30))
def test_events_are_read_whatever_chunks_and_reads_cut_them_into(size: int, cuts: list[int]) -> None:
    """The same events come out, and the end is known."""
    answer = chunked(b"".join(b"data: %b\n\n" % event for event in EVENTS), size)
    reader = SseReader()
    places = [0, *sorted(cuts), len(answer)]
    read = [event for begin, end in pairwise(places) for event in reader.feed(answer[begin:end])]
    assert read == EVENTS
    assert reader.done


def test_an_answer_is_not_over_before_its_last_byte() -> None:
    """A connection that is used again too early would take the rest for the next answer."""
    answer = chunked(b"data: 1\n\n", 9)
    reader = SseReader()
    reader.feed(answer[:-1])
    assert not reader.done
    reader.feed(answer[-1:])
    assert reader.done


def test_an_answer_that_is_no_stream_is_told() -> None:
    """The status and what came with it are in the message."""
    with pytest.raises(SseError, match=r"503 busy.*come back"):
        SseReader().feed(b"HTTP/1.1 503 busy\r\n\r\ncome back")
