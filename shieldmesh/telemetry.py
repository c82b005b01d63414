"""OpenTelemetry as this mesh uses it: whose tracer and meter, and every name of a span or attribute in one table.

The library needs the API package alone; without an SDK everything here is a cheap no-op. Services install the SDK
with `shieldmesh.exporting`; `shieldmesh.metrics` holds the metrics.
"""

from asyncio import CancelledError
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Final

from opentelemetry import context, metrics, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from shieldmesh.errors import MeshError

PROPAGATOR: Final = TraceContextTextMapPropagator()
"""W3C Trace Context. Baggage is the session interceptor's business: only session values travel in it."""
SCOPE: Final = "shieldmesh"


class SpanName:
    """What spans are called, beside those of calls, which bear the name of their method."""

    SHIELD: Final = "shield"
    """Followed by the shield's name: one inspection by one shield."""
    TURN: Final = "turn"
    """A turn that goes on when its caller goes away (`disconnect`): it can outlast the span of the call."""
    FLOW: Final = "flow"
    """Followed by the flow's name: a flow in the place of the model."""
    MODULE: Final = "module"
    """Followed by the module's name: one call of a module by a flow."""
    SHADOW: Final = "shadow"
    """A policy that runs beside a turn's without acting, and how the two compare."""
    QUEUE: Final = "queue"
    """Waiting for a place at a model."""
    ENGINE: Final = "engine"
    """A model at work, from the place it got to its last token."""


class Name:
    """Attributes of spans and metrics.

    `rpc.*` and `gen_ai.*` follow the semantic conventions; those of GenAI are in development and will move. There are
    none for guardrails yet: `shieldmesh.*` are our own.
    """

    SESSION: Final = "session.id"
    TURN: Final = "shieldmesh.turn.id"
    TENANT: Final = "shieldmesh.tenant.id"
    PROFILE: Final = "shieldmesh.profile"
    PROFILE_VERSION: Final = "shieldmesh.profile.version"
    """Which policy it was: changes with every edit of a profile, so it is no label of a metric."""
    OUTCOME: Final = "shieldmesh.turn.outcome"
    """finished, failed or cancelled."""

    STALL: Final = "shieldmesh.turn.stall"
    """What became of a turn whose caller read nothing: pause, detach or cancel."""

    RELOAD: Final = "shieldmesh.profile.reload.result"
    """loaded or refused."""

    RPC_SYSTEM: Final = "rpc.system.name"
    RPC_METHOD: Final = "rpc.method"
    RPC_STATUS: Final = "rpc.response.status_code"
    HTTP_METHOD: Final = "http.request.method"
    HTTP_ROUTE: Final = "http.route"
    HTTP_STATUS: Final = "http.response.status_code"
    URL_SCHEME: Final = "url.scheme"
    SERVER_ADDRESS: Final = "server.address"
    SERVER_PORT: Final = "server.port"
    ERROR_TYPE: Final = "error.type"
    """What made a piece of work fail: a status, a reason in capitals, or the type of an exception; never its text."""
    REASON: Final = "shieldmesh.error.reason"
    """The reason of a call that ended with a typed error, whoever is to blame."""
    CANCELLED: Final = "shieldmesh.cancelled"
    """True on a span whose work was given up before its end; such a span has not failed."""
    MESSAGES_SENT: Final = "shieldmesh.rpc.messages_sent"

    SHIELD: Final = "shieldmesh.shield"
    DIRECTION: Final = "shieldmesh.direction"
    """input or output."""
    ACTION: Final = "shieldmesh.action"
    """flag, redact or block; on a span the strictest one."""
    FINDINGS: Final = "shieldmesh.findings"

    SHADOW: Final = "shieldmesh.shadow"
    """True on spans of shields that ran for a candidate: nothing was done about what they found."""
    CANDIDATE: Final = "shieldmesh.shadow.candidate"
    """The profile that ran beside the turn's."""
    CANDIDATE_VERSION: Final = "shieldmesh.shadow.candidate.version"
    SHADOW_OUTCOME: Final = "shieldmesh.shadow.outcome"
    """compared, abandoned (it fell behind, took too long, or too many ran), or failed."""
    COMPARED: Final = "shieldmesh.shadow.compared"
    """How a finding compares: same, stricter, milder, only_shadow or only_live."""
    DIFFERENCES: Final = "shieldmesh.shadow.differences"
    """How many findings were not the same."""
    WORKED: Final = "shieldmesh.shield.worked"
    """Seconds that a shield worked in an inspection; its span lasts as long as the text took to come."""
    BATCH: Final = "shieldmesh.shield.batch"
    """How many windows, of any turns, the shield's model looked at together in the last batch with some of this one."""

    REMOTE: Final = "shieldmesh.shield.remote"
    """The URL of a remote shield."""

    QUEUED_AT: Final = "shieldmesh.model"
    """The model that a request waits for; not `gen_ai.request.model`, by which backends know calls of models."""

    ENDPOINT: Final = "shieldmesh.model.endpoint"
    """The endpoint of a model that answered, or that was asked last: an address."""

    FALLBACK_FROM: Final = "shieldmesh.fallback.from"
    """The models that a turn asked before the one that answers."""

    PLACES: Final = "shieldmesh.admission"
    """Whose places work waits for: a service or one of its methods, or a model."""

    OPERATION: Final = "gen_ai.operation.name"
    MODEL: Final = "gen_ai.request.model"
    BACKEND: Final = "gen_ai.provider.name"
    TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105  # a kind of token of text, no secret
    INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
    CACHED_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
    OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
    FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
    FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
    """Seconds from the engine's start."""


def tracer() -> trace.Tracer:
    """The tracer of this library and its services."""
    return _recorders.tracer or _recorders.use_global()[0]


def meter() -> metrics.Meter:
    """The meter of this library and its services; `shieldmesh.metrics` makes its instruments."""
    return _recorders.meter or _recorders.use_global()[1]


@contextmanager
def recording(tracers: trace.TracerProvider, meters: metrics.MeterProvider) -> Generator[None]:
    """Has this process record with these providers inside the block, instead of with OpenTelemetry's global ones.

    Those can be set once in a process. This is for code that shares a process with others: tests above all.
    """
    before = _recorders.tracer, _recorders.meter
    _recorders.tracer, _recorders.meter = tracers.get_tracer(SCOPE), meters.get_meter(SCOPE)
    try:
        yield
    finally:
        _recorders.tracer, _recorders.meter = before


class _Recorders:
    """The one place that knows the tracer and the meter: asking a provider for one costs more than using it."""

    tracer: trace.Tracer | None = None
    meter: metrics.Meter | None = None

    def use_global(self) -> tuple[trace.Tracer, metrics.Meter]:
        # Asked before the process has set its providers, OpenTelemetry gives proxies that follow.
        self.tracer, self.meter = trace.get_tracer(SCOPE), metrics.get_meter(SCOPE)
        return self.tracer, self.meter


_recorders: Final = _Recorders()


class inside:  # noqa: N801  # a preposition where it is used, as the context managers of contextlib are
    """Makes a span the current one inside the block, and does nothing else to it.

    What is said of `span` and generators holds here, too.
    """

    __slots__ = ("_span", "_token")

    def __init__(self, current: trace.Span) -> None:
        self._span = current

    def __enter__(self) -> trace.Span:
        self._token = context.attach(trace.set_span_in_context(self._span))
        return self._span

    def __exit__(self, *_: object) -> None:
        context.detach(self._token)


class span:  # noqa: N801  # see `inside`
    """A span around the block, current inside it; an exception that leaves the block marks it with its type alone.

    Exception texts can hold what users said, so they are never recorded. Never keep it over a `yield` of an
    asynchronous generator: such spans are started and ended by hand.
    """

    __slots__ = ("_attributes", "_inside", "_name", "_span")

    def __init__(self, name: str, attributes: Mapping[str, AttributeValue] | None = None) -> None:
        self._name = name
        self._attributes = attributes

    def __enter__(self) -> trace.Span:
        self._span = tracer().start_span(self._name, attributes=self._attributes)
        self._inside = inside(self._span)
        return self._inside.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None
    ) -> None:
        if error is not None:
            end_badly(self._span, error)
        self._inside.__exit__(kind, error, place)
        self._span.end()


def end_badly(current: trace.Span, error: BaseException) -> None:
    """Marks a span whose work an exception ended: given up by a cancellation, failed by anything else."""
    if isinstance(error, CancelledError | GeneratorExit):
        current.set_attribute(Name.CANCELLED, value=True)
    else:
        fail(current, error.reason if isinstance(error, MeshError) else type(error).__name__)


def fail(current: trace.Span, error_type: str) -> None:
    """Marks a span as failed, with a type and no text."""
    current.set_attribute(Name.ERROR_TYPE, error_type)
    current.set_status(trace.StatusCode.ERROR)


class undisturbed:  # noqa: N801  # see `inside`
    """Has instrumentations of libraries record nothing of what is begun inside the block: it has spans of ours.

    An application may have instrumented all of grpc.aio; two client spans for each call would be one too many.
    """

    __slots__ = ("_token",)

    def __enter__(self) -> None:
        self._token = context.attach(context.set_value("suppress_instrumentation", value=True))

    def __exit__(self, *_: object) -> None:
        context.detach(self._token)


def span_id(current: trace.Span) -> str:
    """The span's id as 16 hexadecimal digits, or "" when nothing is traced."""
    context = current.get_span_context()
    return trace.format_span_id(context.span_id) if context.is_valid else ""


def trace_id() -> str:
    """The current trace's id as 32 hexadecimal digits, or "" when nothing is traced."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else ""
