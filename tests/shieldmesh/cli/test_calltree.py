"""The way a turn took."""

import io
from dataclasses import replace

from rich.console import Console

from shieldmesh.cli.calltree import call_tree, render
from shieldmesh.client.events import Finished, FinishReason, Receipt, Started, Timings, Usage

STARTED = Started(1, "turn-1", "s-1", "default", "v1", "smollm2", "")
FINISHED = Finished(
    9,
    FinishReason.STOP,
    Usage(prompt_tokens=14, completion_tokens=120, total_tokens=134),
    Receipt(
        most_held_characters=19,
        longest_hold=0.012,
        redacted_characters=19,
        input_shields=("pii",),
        output_shields=("pii", "secrets"),
    ),
    Timings(input_cleared=0.01, admitted=0.003, first_token=0.08, first_release=0.081, total=1.28),
)


def test_every_phase_is_there_with_its_time() -> None:
    """Shields and inference lie below the orchestrator, each from its start to its end."""
    phases = call_tree(STARTED, FINISHED, elapsed=1.3).phases
    assert [(phase.service, phase.what) for phase in phases] == [
        ("client", ""),
        ("gateway", ""),
        ("orchestrator", ""),
        ("shield", "input"),
        ("inference", "queue"),
        ("inference", "prompt"),
        ("inference", "answer"),
        ("shield", "output"),
    ]
    answer = phases[6]
    assert (answer.start, answer.end) == (0.08, 1.28)
    assert answer.note == "120 tokens, 100/s"
    assert phases[7].note == "pii, secrets; held at most 19 characters, 12 ms; 19 redacted"


def test_phases_that_did_not_happen_are_left_out() -> None:
    """A turn that was blocked at its input shows no generation."""
    blocked = replace(
        FINISHED, timings=Timings(input_cleared=0.01, total=0.02), receipt=Receipt(input_shields=("pii",))
    )
    phases = call_tree(STARTED, blocked, elapsed=0.03).phases
    assert [phase.service for phase in phases] == ["client", "gateway", "orchestrator", "shield"]
    assert phases[-1].branch.strip() == "└─"


def test_it_prints_as_a_tree() -> None:
    """One line for each phase, with branches and milliseconds."""
    console = Console(file=io.StringIO(), width=140)
    render(call_tree(STARTED, FINISHED, elapsed=1.3), console)
    file = console.file
    assert isinstance(file, io.StringIO)
    lines = file.getvalue().splitlines()
    assert lines[:2] == ["turn    turn-1", "session s-1"]
    assert len(lines) == 10
    assert lines[2].startswith("client")
    assert "1,300 ms" in lines[2]
    assert lines[-1].startswith("      └─ shield output")
