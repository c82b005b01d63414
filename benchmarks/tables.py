"""The tables of the pages, in Markdown. Pure."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from . import results
from .measure import Observation
from .plan import OURS, OURS_HTTP
from .results import Range, Results

Value = Callable[[Observation], float | None]

_PEERS: Final = (
    OURS_HTTP,
    f"{OURS_HTTP}-bare",
    "litellm",
    "litellm-guarded",
    "nemo",
    "smg",
    "envoy-http",
)
_FLOORS: Final = ("envoy-grpc", "hop", OURS)
_SERVICES: Final = ("gateway", "orchestrator", "shield", "inference")
_NONE: Final = "n/a"
_FAR: Final = 0.15
"""From which share of its middle a spread is worth a mark."""


def peers(seen: Results) -> str:
    """The systems behind the same HTTP upstream."""
    head = (
        "",
        "µs CPU a token",
        "times ours",
        "gap p99, ms",
        "added TTFT, ms",
        "KiB a stream",
        "of 6,400 tokens/s",
        "µs CPU a token",
        "tokens a message",
        "gap p99, ms",
        "tokens/s at most",
    )
    return _table(head, (_peer(seen, name, OURS_HTTP) for name in _PEERS if name in seen.titles))


def floors(seen: Results) -> str:
    """GRPC from end to end, with our engine behind."""
    head = (
        "",
        "µs CPU a token",
        "times ours",
        "gap p99, ms",
        "added TTFT, ms",
        "of 6,400 tokens/s",
        "µs CPU a token",
        "tokens a message",
        "gap p99, ms",
    )
    rows = (
        (
            seen.titles[name],
            *_steady(seen, name, OURS),
            _cell(seen.range(name, "latency", results.added_first_token), "{:.1f}"),
            *_paced(seen, name),
        )
        for name in _FLOORS
        if name in seen.titles
    )
    return _table(head, rows)


def targets(seen: Results) -> str:
    """What the mesh must reach, and what it reaches."""
    goals: Sequence[tuple[str, Range | None, str, float, float, bool]] = (
        (
            "CPU a token, 128 streams at 50 tokens/s, shields on both ways, µs",
            seen.range(OURS, "paced", results.cpu_per_token),
            "{:.0f}",
            300,
            40,
            False,
        ),
        (
            "tokens/s, saturated, same shields",
            seen.range(OURS, "saturated", results.tokens_per_second),
            "{:,.0f}",
            20_000,
            60_000,
            True,
        ),
        (
            "added time to the first token, idle, over the engine itself, ms",
            seen.range(OURS, "latency", results.added_first_token),
            "{:.1f}",
            6,
            3,
            False,
        ),
        (
            "added gap between tokens, p99, 128 streams at 50 tokens/s, ms",
            seen.range(OURS, "paced", lambda each: _less(results.gap_p99(each), 20.0)),
            "{:.0f}",
            15,
            5,
            False,
        ),
        (
            "memory of an open stream, all services, KiB",
            seen.range(OURS, "idle-2000", results.memory_per_stream),
            "{:.0f}",
            100,
            30,
            False,
        ),
    )
    rows = (
        (what, _cell(value, form), form.format(must), form.format(aim), _verdict(value, must, more=more))
        for what, value, form, must, aim, more in goals
    )
    return _table(("what", "measured", "must reach", "aims at", ""), rows)


def services(seen: Results) -> str:
    """Where the mesh's own time goes, scenario by scenario."""
    head = (
        "scenario",
        "µs CPU a token",
        *_SERVICES,
        "tokens/s",
        "tokens a message",
        "TTFT p50 / p99, ms",
        "gap p99, ms",
    )
    rows = (
        (
            f"`{name}`",
            _cell(seen.range(OURS, name, results.cpu_per_token)),
            *(_cell(seen.range(OURS, name, results.cpu_of(service)), plain=True) for service in _SERVICES),
            _cell(seen.range(OURS, name, results.tokens_per_second), "{:,.0f}", plain=True),
            _cell(seen.range(OURS, name, results.together), "{:.1f}", plain=True),
            _cell(seen.range(OURS, name, results.first_token), "{:.1f}", plain=True)
            + " / "
            + _cell(seen.range(OURS, name, results.first_token_p99), "{:.1f}", plain=True),
            _cell(seen.range(OURS, name, results.gap_p99), "{:.0f}", plain=True),
        )
        for name in ("steady", "paced", "latency", "saturated", "short", "long")
        if seen.rounds(OURS, name)
    )
    return _table(head, rows)


def variants(seen: Results) -> str:
    """`steady` with one thing changed."""
    names = [name for name in seen.titles if name.startswith("mesh-") and not name.startswith(OURS_HTTP)]
    head = ("", "µs CPU a token", "times that of the first", "gap p99, ms")
    rows = ((seen.titles[name], *_steady(seen, name, OURS)) for name in (OURS, *names) if seen.rounds(name, "steady"))
    return _table(head, rows)


def sweep(seen: Results) -> str:
    """From one stream to many."""
    head = ("open streams", "µs CPU a token", "cores", "tokens/s", "tokens a message", "TTFT p50, ms", "gap p99, ms")
    rows = (
        (
            name.removeprefix("sweep-"),
            _cell(seen.range(OURS, name, results.cpu_per_token)),
            _cell(seen.range(OURS, name, lambda each: each.system.cores), "{:.2f}"),
            _cell(seen.range(OURS, name, results.tokens_per_second), "{:,.0f}"),
            _cell(seen.range(OURS, name, results.together), "{:.2f}"),
            _cell(seen.range(OURS, name, results.first_token), "{:.1f}"),
            _cell(seen.range(OURS, name, results.gap_p99), "{:.0f}"),
        )
        for name in seen.seen.get(OURS, {})
        if name.startswith("sweep-")
    )
    return _table(head, rows)


def settings(seen: Results) -> str:
    """How each system was set up."""
    rows = ((f"`{name}`", seen.titles[name], said) for name, said in seen.settings.items())
    return _table(("", "system", "settings"), rows, words=True)


def client(seen: Results) -> str:
    """What making the load took."""
    values = [each.system.client for name in seen.seen for each in seen.rounds(name, "paced")]
    middle = Range.of(values)
    return _NONE if middle is None else f"{middle.low:.2f} to {middle.high:.2f}"


def value(seen: Results, system: str, scenario: str, what: str, form: str = "{:.0f}") -> str:
    """One value for the text: `what` is a function of `benchmarks.results`."""
    return _cell(seen.range(system, scenario, getattr(results, what)), form)


def _peer(seen: Results, name: str, ours: str) -> Sequence[str]:
    return (
        seen.titles[name],
        *_steady(seen, name, ours),
        _cell(seen.range(name, "latency", results.added_first_token), "{:.1f}"),
        _cell(seen.range(name, "idle", results.memory_per_stream)),
        *_paced(seen, name),
        _cell(seen.range(name, "saturated", results.tokens_per_second), "{:,.0f}"),
    )


def _steady(seen: Results, name: str, ours: str) -> Sequence[str]:
    """What a token costs where there is room, also as a multiple of `ours`, and how evenly tokens come."""
    return (
        _cell(seen.range(name, "steady", results.cpu_per_token)),
        _cell(seen.ratio(name, ours, "steady", results.cpu_per_token), "{:.2f}"),
        _cell(seen.range(name, "steady", results.gap_p99), "{:,.0f}"),
    )


def _paced(seen: Results, name: str) -> Sequence[str]:
    """What becomes of a load that fills the machine."""
    return (
        _cell(seen.range(name, "paced", results.tokens_per_second), "{:,.0f}"),
        _cell(seen.range(name, "paced", results.cpu_per_token)),
        _cell(seen.range(name, "paced", results.together), "{:.1f}"),
        _cell(seen.range(name, "paced", results.gap_p99), "{:,.0f}"),
    )


def _less(value: float | None, less: float) -> float | None:
    return None if value is None else value - less


def _verdict(value: Range | None, must: float, *, more: bool) -> str:
    if value is None:
        return "not measured"
    reached = value.middle >= must if more else value.middle <= must
    return "reached" if reached else f"**not reached**: {_times(value.middle, must)}"


def _times(value: float, must: float) -> str:
    return f"{value / must:.1f} times" if must else ""


def _cell(given: Range | None, form: str = "{:.0f}", *, plain: bool = False) -> str:
    """The middle, and how far the rounds lie apart where that is worth saying."""
    if given is None:
        return _NONE
    middle = form.format(given.middle)
    if plain or given.high - given.low <= _FAR * abs(given.middle):
        return middle
    return f"{middle} ({form.format(given.low)} to {form.format(given.high)})"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, words: bool = False) -> str:
    """Numbers stand at the right, and words at the left."""
    lines = [head, ["---", *["---" if words else "---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
