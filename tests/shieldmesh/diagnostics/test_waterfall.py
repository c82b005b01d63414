"""A turn's spans as a tree."""

from shieldmesh.diagnostics.waterfall import Row, waterfall
from shieldmesh.errors import duration
from shieldmesh.v1.diagnostics_pb2 import Span


def span(
    number: int, parent: int, name: str, service: str, kind: str = "internal", *, at: float = 0.0, **rest: object
) -> Span:
    """A span of 0.1 s; `at` is seconds."""
    attributes = {key: str(value) for key, value in rest.items() if key != "failed"}
    made = Span(
        trace_id="ab" * 16,
        span_id=f"{number:016x}",
        parent_span_id=f"{parent:016x}" if parent else "",
        name=name,
        service=service,
        kind=kind,
        duration=duration(0.1),
        failed=bool(rest.get("failed")),
        attributes={key.replace("__", "."): value for key, value in attributes.items()},
    )
    made.start.FromNanoseconds(1_000_000_000_000 + round(at * 1e9))
    return made


CHAT = "shieldmesh.v1.ChatService/Chat"
INSPECT = "shieldmesh.v1.ShieldService/Inspect"
GENERATE = "shieldmesh.v1.InferenceService/Generate"


def lines(rows: list[Row] | tuple[Row, ...]) -> list[str]:
    return [f"{row.branch}{row.service} {row.what}" for row in rows]


def test_a_call_is_one_row() -> None:
    """The caller's side of a call is not shown beside the callee's, and what the callee did hangs below it."""
    tree = waterfall(
        [
            span(1, 0, CHAT, "gateway", "server"),
            span(2, 1, CHAT, "gateway", "client", at=0.1),
            span(3, 2, CHAT, "orchestrator", "server", at=0.2),
            span(4, 3, INSPECT, "orchestrator", "client", at=0.3),
            span(5, 3, GENERATE, "orchestrator", "client", at=0.4),
            span(6, 4, INSPECT, "shield", "server", at=0.6),
            span(7, 6, "shield pii", "shield", at=0.7),
            span(8, 6, "shield secrets", "shield", at=0.7),
            span(9, 5, GENERATE, "inference", "server", at=0.5),
            span(10, 9, "queue", "inference", at=0.8),
        ]
    )
    assert lines(list(tree.rows)) == [
        "gateway Chat",
        "└─ orchestrator Chat",
        "   ├─ shield Inspect",
        "   │  ├─ shield pii",
        "   │  └─ shield secrets",
        "   └─ inference Generate",
        "      └─ inference queue",
    ]
    assert [row.own for row in tree.rows] == [True, True, True, False, False, True, False]
    assert [round(row.start, 1) for row in tree.rows] == [0.0, 0.2, 0.6, 0.7, 0.7, 0.5, 0.8]
    assert all(round(row.duration, 1) == 0.1 for row in tree.rows)
    assert tree.whole


def test_a_callee_that_tells_nothing() -> None:
    """A call whose callee is not heard of is shown as its caller saw it, with its failure."""
    tree = waterfall(
        [
            span(1, 0, CHAT, "orchestrator", "server"),
            span(2, 1, INSPECT, "orchestrator", "client", failed=True, error__type="UNAVAILABLE"),
        ]
    )
    assert lines(list(tree.rows)) == ["orchestrator Chat", "└─ orchestrator → Inspect"]
    assert (tree.rows[1].failure, tree.rows[1].note) == ("UNAVAILABLE", "callee silent")


def test_a_turn_without_its_root() -> None:
    """Parts whose parent is not there stand at the left, and the tree says that it is not the whole."""
    tree = waterfall([span(3, 2, INSPECT, "shield", "server"), span(4, 3, "shield pii", "shield", at=0.1)])
    assert lines(list(tree.rows)) == ["shield Inspect", "└─ shield pii"]
    assert not tree.whole


def test_what_a_row_says() -> None:
    """Shields tell their direction and action, engines their tokens, failures their reason."""
    notes = {
        row.what: (row.failure, row.note)
        for row in waterfall(
            [
                span(1, 0, "shield pii", "shield", shieldmesh__direction="output", shieldmesh__action="redact"),
                span(2, 0, "engine", "inference", gen_ai__usage__input_tokens=3, gen_ai__usage__output_tokens=5),
                span(3, 0, "queue", "inference", shieldmesh__cancelled="true"),
                span(4, 0, "slow", "shield", failed=True, error__type="DEADLINE_EXCEEDED"),
                span(5, 0, "typed", "shield", failed=True, error__type="X", shieldmesh__error__reason="SHIELD_TIMEOUT"),
                span(6, 0, "odd", "shield", failed=True),
            ]
        ).rows
    }
    assert notes == {
        "pii": ("", "output, redact"),
        "engine": ("", "3→5 tokens"),
        "queue": ("", "cancelled"),
        "slow": ("DEADLINE_EXCEEDED", ""),
        "typed": ("SHIELD_TIMEOUT", ""),
        "odd": ("FAILED", ""),
    }


def test_whose_turn_it_was() -> None:
    """The facts come from whichever span knows them, the outermost first; two traces are both named."""
    first = span(1, 0, CHAT, "gateway", "server", shieldmesh__turn__id="t-1", session__id="s-1")
    second = span(2, 0, CHAT, "orchestrator", "server", at=0.1, session__id="s-2", shieldmesh__profile="default")
    second.trace_id = "cd" * 16
    assert waterfall([second, first]).facts == {
        "trace": f"{'ab' * 16}, {'cd' * 16}",
        "turn": "t-1",
        "session": "s-1",
        "profile": "default",
    }


def test_nothing_is_nothing() -> None:
    """No spans are an empty tree."""
    tree = waterfall([])
    assert (list(tree.rows), tree.whole) == ([], False)


def test_a_model_that_stood_in_is_the_model_of_the_turn() -> None:
    """The one that failed is told beside it, and each attempt says where it went."""
    tree = waterfall(
        [
            span(1, 0, CHAT, "orchestrator", "server", shieldmesh__fallback__from="qwen"),
            span(2, 1, GENERATE, "inference", "server", at=0.1, failed=True, shieldmesh__model__endpoint="gpu-1:8000"),
            span(3, 2, "engine", "inference", at=0.2, failed=True, gen_ai__request__model="qwen"),
            span(4, 1, GENERATE, "inference", "server", at=0.3),
            span(5, 4, "engine", "inference", at=0.4, gen_ai__request__model="echo"),
        ]
    )
    assert (tree.facts["model"], tree.facts["instead of"]) == ("echo", "qwen")
    assert [row.note for row in tree.rows if row.what == "Generate"] == ["at gpu-1:8000", ""]
