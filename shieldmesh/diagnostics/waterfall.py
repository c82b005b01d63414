"""The spans of a turn as a tree in the order of time. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from shieldmesh import errors
from shieldmesh.telemetry import Name
from shieldmesh.v1.diagnostics_pb2 import Span


@dataclass(frozen=True, slots=True)
class Row:
    """One piece of work."""

    branch: str
    """What connects it to what it is a part of."""
    service: str
    what: str
    """What the service did."""
    own: bool
    """It is what the service was called for, not a part of that."""
    start: float
    """Seconds from the begin of the whole."""
    duration: float
    """Seconds."""
    failure: str = ""
    """Why it failed, in capitals or as the type of an exception; "" when it did not."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Waterfall:
    """A turn."""

    facts: Mapping[str, str]
    """Whose it was and how it ended, as far as it is known, by name."""
    rows: Sequence[Row]
    whole: bool
    """The span around all others is there. Otherwise the turn still runs, or a service forgot its part."""


def waterfall(spans: Iterable[Span]) -> Waterfall:
    """The tree of a turn's spans. A call that was answered is one row: its other end lies inside it."""
    shown = _joined(sorted(spans, key=_start))
    here = {span.span_id for span in shown}
    below: dict[str, list[Span]] = {}
    for span in shown:
        below.setdefault(span.parent_span_id if span.parent_span_id in here else "", []).append(span)
    zero = min((_start(span) for span in shown), default=0)
    rows = list(_rows(below, "", "", zero))
    return Waterfall(_facts(shown), rows, any(not span.parent_span_id for span in shown))


def _joined(spans: Sequence[Span]) -> list[Span]:
    """With a call's callee in the place of its caller's side, where the callee tells of it.

    In the place: the clocks of two machines differ, and what one of them began first should come first.
    """
    clients = {span.span_id: span for span in spans if span.kind == "client"}
    callees: dict[str, list[Span]] = {}
    for span in spans:
        if span.kind == "server" and span.parent_span_id in clients:
            joined = Span()
            joined.CopyFrom(span)
            joined.parent_span_id = clients[span.parent_span_id].parent_span_id
            callees.setdefault(span.parent_span_id, []).append(joined)
    inside = {span.span_id for joined in callees.values() for span in joined}
    return [row for span in spans if span.span_id not in inside for row in callees.get(span.span_id, [span])]


def _rows(below: Mapping[str, Sequence[Span]], parent: str, indent: str, zero: int) -> Iterable[Row]:
    """What is below a span, each followed by what is below it; the outermost have no branches."""
    spans = below.get(parent, ())
    for number, span in enumerate(spans, 1):
        branch, deeper = ("└─ ", "   ") if number == len(spans) else ("├─ ", "│  ")
        if not parent:
            branch = deeper = ""
        yield Row(
            branch=indent + branch,
            service=span.service,
            what=_what(span),
            own=span.kind == "server",
            start=(_start(span) - zero) / 1e9,
            duration=errors.seconds(span.duration),
            failure=_failure(span),
            note=_note(span),
        )
        yield from _rows(below, span.span_id, indent + deeper, zero)


def _what(span: Span) -> str:
    method = span.name.rpartition("/")[2]
    if span.kind == "client":
        return f"→ {method}"
    return method.removeprefix(f"{span.service} ")


def _failure(span: Span) -> str:
    if not span.failed:
        return ""
    attributes = span.attributes
    for name in (Name.REASON, Name.ERROR_TYPE, Name.RPC_STATUS):
        if attributes.get(name):
            return attributes[name]
    return "FAILED"


def _note(span: Span) -> str:
    attributes = span.attributes
    parts = [attributes[name] for name in (Name.DIRECTION, Name.ACTION) if attributes.get(name)]
    prompt, completion = attributes.get(Name.INPUT_TOKENS), attributes.get(Name.OUTPUT_TOKENS)
    if prompt and completion:
        parts.append(f"{prompt}→{completion} tokens")
    if attributes.get(Name.ENDPOINT):
        parts.append(f"at {attributes[Name.ENDPOINT]}")
    if not span.failed and (attributes.get(Name.CANCELLED) == "true" or attributes.get(Name.RPC_STATUS) == "CANCELLED"):
        parts.append("cancelled")
    if span.kind == "client":
        parts.append("callee silent")
    return ", ".join(parts)


_FACTS: Final = {
    "turn": Name.TURN,
    "session": Name.SESSION,
    "tenant": Name.TENANT,
    "profile": Name.PROFILE,
    "model": Name.MODEL,
    "instead of": Name.FALLBACK_FROM,
    "outcome": Name.OUTCOME,
    "reason": Name.FINISH_REASONS,
}


def _facts(spans: Sequence[Span]) -> dict[str, str]:
    """From the first span that knows and did not fail, else from any. More than one trace: a service lost it."""
    knowing = sorted(spans, key=lambda span: span.failed)
    facts = {"trace": ", ".join(dict.fromkeys(span.trace_id for span in spans))}
    for fact, name in _FACTS.items():
        value = next((span.attributes[name] for span in knowing if span.attributes.get(name)), "")
        if value:
            facts[fact] = value
    return facts


def _start(span: Span) -> int:
    return span.start.ToNanoseconds()
