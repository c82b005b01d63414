"""A turn at a terminal."""

import io
import json

from rich.console import Console

from shieldmesh.cli.answer import JsonAnswer, ReadableAnswer
from shieldmesh.client.events import (
    Action,
    Delta,
    Direction,
    Event,
    Finding,
    Finished,
    FinishReason,
    Progress,
    Receipt,
    Reconnected,
    Timings,
    Usage,
    Verdict,
)
from shieldmesh.errors import UnavailableError

REDACTION = Verdict(2, "pii", Direction.OUTPUT, Action.REDACT, (Finding("payment_card", 11, 30, 1.0),))


def end(reason: FinishReason) -> Finished:
    return Finished(9, reason, Usage(), Receipt(), Timings())


def shown(*events: Event, terminal: bool = False) -> tuple[str, str]:
    """What stands on both streams after these events."""
    out, notes = io.StringIO(), io.StringIO()
    console = Console(file=out, force_terminal=terminal, color_system="standard" if terminal else None, soft_wrap=True)
    answer = ReadableAnswer(console, Console(file=notes, soft_wrap=True))
    for event in events:
        answer.show(event)
    return out.getvalue(), notes.getvalue()


def test_text_and_facts_go_separate_ways() -> None:
    """The answer's text goes to one stream, what the shields did to the other."""
    events = (Delta(2, "My card is "), REDACTION, Delta(3, "[PAYMENT_CARD]."), end(FinishReason.STOP))
    assert shown(*events) == (
        "My card is [PAYMENT_CARD].\n",
        "⚑ pii redacted in the output: payment_card at 11-30\n",
    )


def test_a_connection_that_broke_is_a_note() -> None:
    """The text goes on where it was; that there was a break stands beside it, or on a line of its own as JSON."""
    broke = Reconnected(2, 1, UnavailableError("gone"))
    assert shown(Delta(2, "Hel"), broke, Delta(3, "lo"), end(FinishReason.STOP)) == (
        "Hello\n",
        "↻ the connection broke after event 2, and stands again\n",
    )
    out = io.StringIO()
    JsonAnswer(Console(file=out)).show(broke)
    error = {"status": "UNAVAILABLE", "reason": "SERVICE_UNAVAILABLE"}
    assert json.loads(out.getvalue()) == {"event": "reconnected", "after": 2, "attempts": 1, "error": error}


def test_a_placeholder_stands_out_on_a_terminal() -> None:
    """What a shield put there is marked; the same words by the model are not."""
    text, _ = shown(Delta(1, "[PAYMENT_CARD] "), REDACTION, Delta(3, "[PAYMENT_CARD]"), terminal=True)
    assert text == "[PAYMENT_CARD] \x1b[1;30;43m[PAYMENT_CARD]\x1b[0m"


def test_a_model_cannot_control_the_terminal() -> None:
    """Escape sequences in the text are made harmless on a terminal and kept in a pipe."""
    assert "\x1b[2J" not in shown(Delta(1, "a\x1b[2Jb\x9b2J"), terminal=True)[0]
    assert shown(Delta(1, "a\x1b[2Jb"))[0] == "a\x1b[2Jb"


def test_a_block_is_said() -> None:
    """A turn that a shield ended says so, after the verdict."""
    blocked = Verdict(1, "secrets", Direction.INPUT, Action.BLOCK, (Finding("aws_access_key", 0, 20, 1.0),))
    _, notes = shown(blocked, end(FinishReason.CONTENT_FILTER))
    assert notes == "⚑ secrets blocked in the input: aws_access_key at 0-20\n■ a shield blocked the rest\n"


def test_a_failed_shield_is_said() -> None:
    """A verdict without findings says what failed."""
    _, notes = shown(Verdict(1, "judge", Direction.OUTPUT, Action.BLOCK, error="SHIELD_TIMEOUT"))
    assert notes == "⚑ judge failed on the output (SHIELD_TIMEOUT): blocked\n"


def test_json_is_one_object_a_line() -> None:
    """Every event becomes one JSON object that names its kind."""
    out = io.StringIO()
    answer = JsonAnswer(Console(file=out))
    answer.show(Delta(1, "a\nb"))
    answer.show(REDACTION)
    first, second = map(json.loads, out.getvalue().splitlines())
    assert (first["event"], first["sequence"], first["text"]) == ("delta", 1, "a\nb")
    assert second["findings"] == [{"kind": "payment_card", "start": 11, "end": 30, "score": 1.0}]


def test_interim_results_are_notes_in_one_harmless_line() -> None:
    """They stand beside the answer, when a line is free, and cannot move the cursor."""
    results = Progress(2, "queue", {"waiting": 2}), Progress(3, "plain", {}), Progress(4, "odd", {"x": "\x1b[2J" * 99})
    out, notes = shown(results[0], Delta(5, "Hello"), *results[1:], end(FinishReason.STOP))
    assert out == "Hello\n"
    queue, plain, odd = notes.splitlines()
    assert (queue, plain) == ('… queue {"waiting": 2}', "… plain")
    assert "\x1b" not in odd
    assert len(odd) < 200
