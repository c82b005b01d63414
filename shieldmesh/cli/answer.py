"""A turn at a terminal, as it happens: its text on one console, the facts about it on another."""

import json
import re
from dataclasses import asdict
from typing import Final

from rich.console import Console
from rich.text import Text

from shieldmesh.cli.terminal import harmless
from shieldmesh.client.events import Action, Delta, Event, Finished, FinishReason, Progress, Reconnected, Verdict

_STYLES: Final = {Action.REDACT: "yellow", Action.BLOCK: "bold red", Action.FLAG: "cyan"}
_DONE: Final = {Action.REDACT: "redacted", Action.BLOCK: "blocked", Action.FLAG: "flagged", Action.ALLOW: "allowed"}
_ENDS: Final = {
    FinishReason.LENGTH: "the answer was cut at its length limit",
    FinishReason.CONTENT_FILTER: "a shield blocked the rest",
    FinishReason.CANCELLED: "the turn was cancelled by the mesh",
}


_WIDEST: Final = 160
"""Characters that are shown of an interim result."""


class ReadableAnswer:
    """For people: text as it arrives, placeholders marked on a terminal, the rest as soon as a line is free.

    Args:
        out: Where the answer's text goes.
        notes: Where verdicts and interim results go.
    """

    def __init__(self, out: Console, notes: Console) -> None:
        self._out = out
        self._notes = notes
        self._redacted: set[str] = set()
        self._waiting: list[Verdict | Progress | Reconnected] = []
        self._at_line_start = True

    def show(self, event: Event) -> None:
        """Shows one event."""
        match event:
            case Delta(text=text) if text:
                self._write(text)
            case Verdict():
                if event.action is Action.REDACT:
                    self._redacted.update(finding.kind for finding in event.findings)
                self._waiting.append(event)
            case Progress() | Reconnected():
                self._waiting.append(event)
            case Finished():
                self.end_line()
                if event.reason in _ENDS:
                    self._notes.print(Text(f"■ {_ENDS[event.reason]}", style="yellow"))
            case _:
                pass
        if self._at_line_start:
            self._flush()

    def end_line(self) -> None:
        """Ends a line that was begun, so that something else can be said."""
        if not self._at_line_start:
            self._out.print()
            self._at_line_start = True
        self._flush()

    def _write(self, text: str) -> None:
        if self._out.is_terminal:
            shown = Text(harmless(text))
            if self._redacted:
                shown.highlight_regex(placeholders(self._redacted), "bold black on yellow")
            self._out.print(shown, end="")
        else:
            self._out.file.write(text)
            self._out.file.flush()
        self._at_line_start = text.endswith("\n")

    def _flush(self) -> None:
        for event in self._waiting:
            if isinstance(event, Progress):
                self._notes.print(Text(f"… {_summary(event)}", style="dim"))
            elif isinstance(event, Reconnected):
                self._notes.print(
                    Text(f"↻ the connection broke after event {event.after}, and stands again", style="dim")
                )
            else:
                self._notes.print(Text(f"⚑ {describe(event)}", style=_STYLES.get(event.action, "")))
        self._waiting.clear()


class JsonAnswer:
    """For programs: one JSON object a line for each event. Times are seconds."""

    def __init__(self, out: Console) -> None:
        self._out = out

    def show(self, event: Event) -> None:
        """Writes one event."""
        fields = {"event": type(event).__name__.lower(), **asdict(event)}
        if isinstance(event, Reconnected):
            fields["error"] = {"status": event.error.code.name, "reason": event.error.reason}
        self._out.file.write(json.dumps(fields, ensure_ascii=False) + "\n")
        self._out.file.flush()

    def end_line(self) -> None:
        """Does nothing: every event ends its line."""


def describe(verdict: Verdict) -> str:
    """A verdict in a short line."""
    done = _DONE.get(verdict.action, "decided on")
    if verdict.error:
        return f"{verdict.shield} failed on the {verdict.direction} ({verdict.error}): {done}"
    what = ", ".join(f"{finding.kind} at {finding.start}-{finding.end}" for finding in verdict.findings)
    return f"{verdict.shield} {done} in the {verdict.direction}: {what}"


def _summary(progress: Progress) -> str:
    """An interim result in a short line."""
    payload = json.dumps(progress.payload, ensure_ascii=False) if progress.payload else ""
    return harmless(f"{progress.name} {payload[:_WIDEST]}").strip()


def placeholders(kinds: set[str]) -> re.Pattern[str]:
    """What stands in a text where findings of these kinds were redacted: "[PAYMENT_CARD]"."""
    return re.compile("|".join(re.escape(f"[{kind.upper()}]") for kind in sorted(kinds)))
