"""`shieldmesh trace` as people type it, against services in this process."""

import asyncio
import io
import json
from collections.abc import Sequence

import pytest
from opentelemetry.trace import SpanKind
from rich.console import Console
from typer.testing import CliRunner, Result

from shieldmesh.cli import build_app
from shieldmesh.cli.waterfall import render
from shieldmesh.diagnostics.memory import Remembered, SpanMemory
from shieldmesh.diagnostics.waterfall import Row, Waterfall
from tests.shieldmesh.diagnostics.mesh import Faults, serving
from tests.shieldmesh.diagnostics.spans import Spans

TURN = Waterfall(
    {"turn": "01a1fd63-081e-7340-83da-5bcbfaf3aad0", "profile": "default", "trace": "ab" * 16},
    [
        Row("", "gateway", "Chat", own=True, start=0.0, duration=24.5),
        Row("└─ ", "orchestrator", "Chat", own=True, start=0.002, duration=24.49),
        Row("   ├─ ", "shield", "InspectStream", own=True, start=0.01, duration=24.4),
        Row("   │  └─ ", "shield", "pii", own=False, start=0.1, duration=12.0, note="output, redact"),
        Row("   └─ ", "inference", "Generate", own=True, start=12.25, duration=0.0004, failure="ENGINE_FAILED"),
    ],
    whole=True,
)


def printed(tree: Waterfall, width: int) -> list[str]:
    file = io.StringIO()
    render(tree, Console(file=file, width=width))
    return [line.rstrip() for line in file.getvalue().splitlines()]


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(build_app(), ["trace", *arguments])


async def traced(url: str, *arguments: str) -> Result:
    return await asyncio.to_thread(invoke, "--url", url, *arguments)


def turn(failure: str = "") -> SpanMemory:
    """A gateway's memory of a turn "t-1", the shield of which may have failed."""
    gateway = Spans()
    root = gateway.span("shieldmesh.v1.ChatService/Chat", turn="t-1", kind=SpanKind.SERVER, end=False)
    gateway.span("shield pii", parent=root, failure=failure)
    root.end()
    return gateway.memory


def test_a_turn_in_80_columns() -> None:
    """Whose turn it was, then one line for each piece of work, with its place in time, nothing too wide."""
    lines = printed(TURN, 80)
    assert lines == [
        "turn    01a1fd63-081e-7340-83da-5bcbfaf3aad0",
        "trace   abababababababababababababababab",
        "profile default",
        "                                             at ms  took ms",
        "gateway Chat                ━━━━━━━━━━━━━━     0.0   24,500",
        "└─ orchestrator Chat        ━━━━━━━━━━━━━━     2.0   24,490",
        "   ├─ shield InspectStream  ━━━━━━━━━━━━━━    10.0   24,400",
        "   │  └─ pii                ━━━━━━━            100   12,000  output, redact",
        "   └─ inference Generate           ━        12,250      0.4  ✗ ENGINE_FAILED",
    ]


def test_a_turn_in_120_columns() -> None:
    """A wide terminal has a longer time line and the reason of a failure in its line."""
    lines = printed(TURN, 120)
    assert max(map(len, lines)) <= 120
    assert "━" * 36 in lines[4]
    assert lines[-1].endswith("✗ ENGINE_FAILED")


def test_a_part_of_a_turn_says_so() -> None:
    """Without the root the tree says that it is not all."""
    assert printed(Waterfall({}, TURN.rows, whole=False), 80)[-1].startswith("this is not all: the turn still runs")


def test_what_a_service_says_cannot_move_the_cursor() -> None:
    """Control characters in names are replaced."""
    evil = [Row("", "ga\x1b[2Jte", "C\x07", own=True, start=0, duration=1, failure="\x1bX", note="\x1bY")]
    assert "\x1b" not in "".join(printed(Waterfall({"turn": "\x1b"}, evil, whole=True), 80))


async def test_trace_prints_the_waterfall() -> None:
    """The tree goes to standard output; a failed piece is marked with its reason."""
    async with serving(memories={"gateway": turn("SHIELD_TIMEOUT")}) as targets:
        result = await traced(targets["gateway"], "t-1")
    assert result.exit_code == 0, result.stderr
    assert "turn    t-1" in result.stdout
    assert "└─ shield pii" in result.stdout
    assert "✗ SHIELD_TIMEOUT" in result.stdout
    assert result.stderr == ""


async def test_trace_as_json() -> None:
    """--json prints the spans with ids, seconds and attributes."""
    async with serving(memories={"gateway": turn()}) as targets:
        result = await traced(targets["gateway"], "--json", "t-1")
    told = json.loads(result.stdout)
    root, shield = told["spans"]
    assert (told["turn_id"], told["forgotten"]) == ("t-1", 0)
    assert (root["kind"], root["parent_span_id"], root["failed"]) == ("server", "", False)
    assert shield["parent_span_id"] == root["span_id"]
    assert root["duration"] >= shield["duration"] >= 0
    assert root["attributes"] == {"shieldmesh.turn.id": "t-1"}


async def test_trace_waits_for_the_root() -> None:
    """Just after a turn its root has not ended yet: it is asked for again until it has."""
    gateway = Spans()
    root = gateway.span("shieldmesh.v1.ChatService/Chat", turn="t-1", kind=SpanKind.SERVER, end=False)
    gateway.span("shield pii", parent=root, turn="t-1")
    asked: list[str] = []

    class Slow(SpanMemory):
        """Ends the root when it is asked for the second time."""

        def recall(self, turn_id: str) -> Remembered:
            asked.append(turn_id)
            if len(asked) == 2:
                root.end()
            return gateway.memory.recall(turn_id)

    async with serving(memories={"gateway": Slow()}) as targets:
        result = await traced(targets["gateway"], "t-1")
    assert "gateway Chat" in result.stdout
    assert "this is not all" not in result.stdout
    assert len(asked) == 2


async def test_a_turn_that_is_not_known() -> None:
    """It is one message with what can be the cause, and exit code 1."""
    async with serving() as targets:
        result = await traced(targets["gateway"], "t-9")
    assert result.exit_code == 1
    assert "nobody remembers a span of this turn" in result.stderr
    assert "Traceback" not in result.stderr


async def test_a_gateway_that_serves_no_diagnostics() -> None:
    """It says which setting turns them on."""
    async with serving(Faults(silent=["gateway"])) as targets:
        result = await traced(targets["gateway"], "t-1")
    assert result.exit_code == 1
    assert "SHIELDMESH_GATEWAY_DIAGNOSTICS=true" in result.stderr


@pytest.mark.parametrize("arguments", [[], ["--url", "http://host", "t-1"]])
def test_wrong_use_is_exit_code_2(arguments: Sequence[str]) -> None:
    """No turn, or no mesh's URL."""
    assert invoke(*arguments).exit_code == 2
