"""What is told of one generation: its `engine` span, its times, and a log line with what it cost."""

import time
from types import TracebackType

import structlog
from opentelemetry import trace
from opentelemetry.util.types import AttributeValue

from shieldmesh import telemetry
from shieldmesh.metrics import instruments
from shieldmesh.telemetry import Name, SpanName

from .backend import FinishReason, Generation
from .registry import ServedModel

_log = structlog.stdlib.get_logger("shieldmesh.inference")


class Observation:
    """A generation at work inside the block, from the place it got; the span is never the current one.

    Attributes:
        first_token: Seconds until the first token; None when there was none.
        total: Seconds until the engine was done.
        reason: Why the engine ended; None when it failed or was left.
    """

    def __init__(self, model: ServedModel, generation: Generation, queued: float) -> None:
        """`queued` is how many seconds the generation waited for its place."""
        self.first_token: float | None = None
        self.total = 0.0
        self.reason: FinishReason | None = None
        self._model = model
        self._generation = generation
        self._queued = queued
        self._begun = time.monotonic()
        self._labels = {Name.OPERATION: "chat", Name.MODEL: model.name, Name.BACKEND: model.kind}
        self._span = telemetry.tracer().start_span(SpanName.ENGINE, attributes=self._labels)

    def __enter__(self) -> "Observation":
        return self

    def tokens_came(self) -> None:
        """The engine gave tokens."""
        if self.first_token is None:
            self.first_token = time.monotonic() - self._begun

    def ended(self, reason: FinishReason) -> None:
        """The engine is done."""
        self.reason = reason
        self.total = time.monotonic() - self._begun

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None
    ) -> None:
        usage = self._generation.usage
        self._describe(error)
        self._measure()
        self._span.end()
        _log.info(
            "generation ended",
            model=self._model.name,
            reason="CANCELLED_OR_FAILED" if self.reason is None else self.reason.name,
            prompt_tokens=usage.prompt,
            cached_tokens=usage.cached,
            completion_tokens=usage.completion,
        )

    def _describe(self, error: BaseException | None) -> None:
        usage = self._generation.usage
        attributes: dict[str, AttributeValue] = {
            Name.INPUT_TOKENS: usage.prompt,
            Name.CACHED_TOKENS: usage.cached,
            Name.OUTPUT_TOKENS: usage.completion,
        }
        if self.first_token is not None:
            attributes[Name.FIRST_CHUNK] = self.first_token
        if self.reason is not None:
            attributes[Name.FINISH_REASONS] = (self.reason.name.lower(),)
        if self.reason is FinishReason.CANCELLED:
            attributes[Name.CANCELLED] = True
        self._span.set_attributes(attributes)
        if error is not None:
            telemetry.end_badly(self._span, error)

    def _measure(self) -> None:
        meters, inside = instruments(), trace.set_span_in_context(self._span)
        labels = meters.labels(self._labels)
        if self.first_token is not None:
            meters.first_token.record(self._queued + self.first_token, labels, inside)
            later = self._generation.usage.completion - 1
            if later > 0 and self.reason not in {None, FinishReason.CANCELLED}:
                meters.token_time.record((self.total - self.first_token) / later, labels, inside)
