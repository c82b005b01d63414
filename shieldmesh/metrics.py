"""The metrics of the mesh: every name, unit and meaning in one table, and the instruments that record them.

Recording looks at the current context: with a sampled span in it the value becomes an exemplar of that trace. A value
counts the same when the trace is not sampled, or when there is none.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from shieldmesh import telemetry
from shieldmesh.labels import BoundedLabels
from shieldmesh.telemetry import Name


class Metric(NamedTuple):
    """A metric's name, unit (UCUM) and meaning, and for histograms the bounds of the buckets."""

    name: str
    unit: str
    meaning: str
    bounds: tuple[float, ...] | None = None


_CALL_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_FIRST_TOKEN_SECONDS: Final = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0)
_TOKEN_SECONDS: Final = (0.0001, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5)
_WORK_SECONDS: Final = tuple(1e-5 * 4.0**power for power in range(12))
_TOKENS: Final = tuple(float(4**power) for power in range(12))
_CHARACTERS: Final = (0.0, *(float(4**power) for power in range(10)))

SERVER_CALLS: Final = Metric("rpc.server.call.duration", "s", "Duration of calls served", _CALL_SECONDS)
CLIENT_CALLS: Final = Metric("rpc.client.call.duration", "s", "Duration of calls made", _CALL_SECONDS)
HTTP_REQUESTS: Final = Metric("http.server.request.duration", "s", "Duration of HTTP requests served", _CALL_SECONDS)
TOKENS: Final = Metric(
    "gen_ai.client.token.usage",
    "{token}",
    "Tokens of a turn by type; cache_read is a part of input and not to be added to it",
    _TOKENS,
)
FIRST_TOKEN: Final = Metric(
    "gen_ai.server.time_to_first_token",
    "s",
    "From the arrival of a request at the model, its queue included, to the first token",
    _FIRST_TOKEN_SECONDS,
)
TOKEN_TIME: Final = Metric(
    "gen_ai.server.time_per_output_token", "s", "Mean time per token of an answer after its first", _TOKEN_SECONDS
)
TURNS: Final = Metric("shieldmesh.turn.duration", "s", "Duration of turns by outcome", _CALL_SECONDS)
RUNNING_TURNS: Final = Metric("shieldmesh.turn.running", "{turn}", "Turns that run now")
STALLS: Final = Metric(
    "shieldmesh.turn.stalls", "{stall}", "Callers that read nothing for as long as their profile allows, by what then"
)
HELD: Final = Metric(
    "shieldmesh.turn.held_characters",
    "{character}",
    "The most characters of a turn that shields held at one time",
    _CHARACTERS,
)
LONGEST_HOLD: Final = Metric(
    "shieldmesh.turn.longest_hold", "s", "The longest that any text of a turn waited for its clearance", _CALL_SECONDS
)
VERDICTS: Final = Metric(
    "shieldmesh.shield.verdicts", "{verdict}", "Findings that shields acted upon, and failures of shields"
)
INSPECTIONS: Final = Metric(
    "shieldmesh.shield.duration", "s", "How long a shield worked in one inspection of a text or stream", _WORK_SECONDS
)
SHADOWS: Final = Metric(
    "shieldmesh.shadow.turns", "{turn}", "Turns that a candidate policy ran beside, by how that ended"
)
SHADOW_FINDINGS: Final = Metric(
    "shieldmesh.shadow.findings", "{finding}", "Findings of compared turns, by how candidate and live policy answered"
)
REMOTES_OPEN: Final = Metric(
    "shieldmesh.shield.remote.open",
    "1",
    "1 while a remote shield is left alone because it failed again and again, else 0",
)
LOG_WAITING: Final = Metric("shieldmesh.turn_log.waiting", "By", "Bytes of events that wait for the turn log")
LOG_EVENTS: Final = Metric("shieldmesh.turn_log.events", "{event}", "Events that the turn log keeps")
LOG_FAILURES: Final = Metric("shieldmesh.turn_log.failures", "{write}", "Writes to the turn log that failed")
LOG_LOST: Final = Metric("shieldmesh.turn_log.lost", "{turn}", "Turns that could not be kept to their end")
LOG_MEMORY: Final = Metric("shieldmesh.turn_log.memory", "By", "Bytes that the turns in a turn log in memory take")
LOG_FORGOTTEN: Final = Metric(
    "shieldmesh.turn_log.forgotten", "{turn}", "Turns that a turn log in memory forgot before their time: it was full"
)
WAITING: Final = Metric("shieldmesh.model.waiting", "{request}", "Requests that wait for a place at a model")
RUNNING: Final = Metric("shieldmesh.model.running", "{request}", "Requests that a model works on")
QUEUED: Final = Metric(
    "shieldmesh.admission.queued",
    "s",
    "How long admitted work waited for its place; 0 where one was free",
    _CALL_SECONDS,
)
REFUSALS: Final = Metric(
    "shieldmesh.admission.refused", "{request}", "Work that was refused because there was no place for it, by reason"
)
RELOADS: Final = Metric("shieldmesh.profile.reloads", "{reload}", "Reloads of the profiles' files by result")
STALE: Final = Metric(
    "shieldmesh.profile.stale", "1", "1 while the files of the profiles are wrong, and those from before stay in use"
)

ALL: Final = (
    *(SERVER_CALLS, CLIENT_CALLS, HTTP_REQUESTS),
    *(TOKENS, FIRST_TOKEN, TOKEN_TIME, TURNS, RUNNING_TURNS, STALLS, HELD, LONGEST_HOLD),
    *(VERDICTS, INSPECTIONS, REMOTES_OPEN, SHADOWS, SHADOW_FINDINGS),
    *(WAITING, RUNNING, QUEUED, REFUSALS, RELOADS, STALE),
    *(LOG_WAITING, LOG_EVENTS, LOG_FAILURES, LOG_LOST, LOG_MEMORY, LOG_FORGOTTEN),
)
"""Every metric. docs/observability.md lists them, and a test compares the two."""

BOUNDED: Final = frozenset(
    {Name.TENANT, Name.PROFILE, Name.CANDIDATE, Name.MODEL, Name.PLACES, Name.SHIELD, Name.REMOTE}
)
"""Labels whose values come from callers and policies. No label holds the id of a session or a turn."""

Labels = Mapping[str, str]


class ModelLoad(NamedTuple):
    """How busy a model is at this moment."""

    model: str
    waiting: int
    running: int


class Instruments:
    """The instruments of one meter."""

    def __init__(self, meter: metrics.Meter) -> None:
        self._meter = meter
        self._bounded = BoundedLabels()
        self.server_calls = self._histogram(SERVER_CALLS)
        self.client_calls = self._histogram(CLIENT_CALLS)
        self.http_requests = self._histogram(HTTP_REQUESTS)
        self.tokens = self._histogram(TOKENS)
        self.first_token = self._histogram(FIRST_TOKEN)
        self.token_time = self._histogram(TOKEN_TIME)
        self.turns = self._histogram(TURNS)
        self.running_turns = meter.create_up_down_counter(*RUNNING_TURNS[:3])
        self.stalls = meter.create_counter(*STALLS[:3])
        self.held = self._histogram(HELD)
        self.longest_hold = self._histogram(LONGEST_HOLD)
        self.verdicts = meter.create_counter(*VERDICTS[:3])
        self.inspections = self._histogram(INSPECTIONS)
        self.remotes_open = meter.create_gauge(*REMOTES_OPEN[:3])
        self.shadows = meter.create_counter(*SHADOWS[:3])
        self.shadow_findings = meter.create_counter(*SHADOW_FINDINGS[:3])
        self.queued = self._histogram(QUEUED)
        self.refusals = meter.create_counter(*REFUSALS[:3])
        self.log_waiting = meter.create_gauge(*LOG_WAITING[:3])
        self.log_events = meter.create_counter(*LOG_EVENTS[:3])
        self.log_failures = meter.create_counter(*LOG_FAILURES[:3])
        self.log_lost = meter.create_counter(*LOG_LOST[:3])
        self.log_memory = meter.create_gauge(*LOG_MEMORY[:3])
        self.log_forgotten = meter.create_counter(*LOG_FORGOTTEN[:3])
        self.reloads = meter.create_counter(*RELOADS[:3])
        self.stale = meter.create_gauge(*STALE[:3])

    def labels(self, values: Labels) -> Labels:
        """The labels with each value from outside bounded."""
        return {
            label: self._bounded.value(label, value) if label in BOUNDED else value for label, value in values.items()
        }

    def watch_models(self, loads: Callable[[], Iterable[ModelLoad]]) -> None:
        """Asks `loads` for the models' load whenever metrics are collected, from another thread."""

        def waiting(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(load.waiting, self.labels({Name.MODEL: load.model})) for load in loads()]

        def running(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(load.running, self.labels({Name.MODEL: load.model})) for load in loads()]

        self._meter.create_observable_gauge(WAITING.name, [waiting], WAITING.unit, WAITING.meaning)
        self._meter.create_observable_gauge(RUNNING.name, [running], RUNNING.unit, RUNNING.meaning)

    def _histogram(self, metric: Metric) -> metrics.Histogram:
        return self._meter.create_histogram(*metric[:3], explicit_bucket_boundaries_advisory=metric.bounds)


def instruments() -> Instruments:
    """The instruments of the meter that this process records with, made when first asked for."""
    return _of(telemetry.meter())


@lru_cache(maxsize=1)
def _of(meter: metrics.Meter) -> Instruments:
    return Instruments(meter)
