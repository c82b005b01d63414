"""What a process remembers of its last turns."""

from concurrent.futures import ThreadPoolExecutor

from shieldmesh.diagnostics.memory import SpanMemory
from tests.shieldmesh.diagnostics.spans import Spans


def names(memory: SpanMemory, turn: str) -> list[str]:
    return [span.name for span in memory.recall(turn).spans]


def test_a_turn_is_all_spans_of_its_trace() -> None:
    """Spans that do not name the turn belong to it when one of their trace does; others do not."""
    service = Spans()
    root = service.span("root", turn="t-1", end=False)
    service.span("child", parent=root)
    service.span("other", turn="t-2")
    root.end()
    assert names(service.memory, "t-1") == ["child", "root"]
    assert names(service.memory, "t-2") == ["other"]
    assert names(service.memory, "t-3") == []


def test_the_oldest_turn_is_forgotten() -> None:
    """With one turn too many, that in which something ended longest ago goes, with its id."""
    service = Spans(memory=SpanMemory(turns=2))
    first = service.span("first", turn="t-1")
    service.span("second", turn="t-2")
    service.span("more of the first", parent=first)
    service.span("third", turn="t-3")
    assert [len(names(service.memory, f"t-{number}")) for number in (1, 2, 3)] == [2, 0, 1]
    assert service.memory.turns == {"t-1", "t-3"}


def test_a_turn_with_too_many_spans_keeps_the_last() -> None:
    """Of more spans than are kept the last stay, for the root ends last, and the others are counted."""
    service = Spans(memory=SpanMemory(spans_per_turn=3))
    root = service.span("root", turn="t-1", end=False)
    for number in range(5):
        service.span(f"child {number}", parent=root)
    root.end()
    assert names(service.memory, "t-1") == ["child 3", "child 4", "root"]
    assert service.memory.recall("t-1").forgotten == 3


def test_looking_leaves_no_trace() -> None:
    """Spans of diagnostic calls are not kept: looking at turns must not push them out."""
    service = Spans(memory=SpanMemory(turns=1))
    service.span("Chat", turn="t-1")
    service.span("shieldmesh.v1.DiagnosticsService/GetTrace", turn="t-2")
    assert names(service.memory, "t-1") == ["Chat"]
    assert names(service.memory, "t-2") == []


def test_spans_end_in_any_thread() -> None:
    """Turns that end in several threads at once lose nothing, and what is too old goes."""
    service = Spans(memory=SpanMemory(turns=50))

    def turn(number: int) -> None:
        root = service.span("root", turn=f"t-{number}", end=False)
        service.span("child", parent=root)
        root.end()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(turn, range(50)))
    assert all(names(service.memory, f"t-{number}") == ["child", "root"] for number in range(50))
