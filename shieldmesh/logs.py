"""Logs: one JSON object a line, or a readable form for terminals, each line tied to its turn and trace."""

import logging
import sys
from typing import Literal

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, WrappedLogger

from shieldmesh import context


def configure(service: str, log_format: Literal["json", "text"], level: str) -> None:
    """Sends all logs of this process, those of libraries too, to standard error."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _identity(service),
        structlog.processors.format_exc_info if log_format == "json" else _as_is,
    ]
    last: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    )
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last]
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())


def _identity(service: str) -> structlog.typing.Processor:
    def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        ours = context.current()
        event["service"] = service
        for key, value in (("turn", ours.request_id), ("session", ours.session_id), ("tenant", ours.tenant_id)):
            if value:
                event.setdefault(key, value)
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            event["trace"] = trace.format_trace_id(span.trace_id)
            event["span"] = trace.format_span_id(span.span_id)
        return event

    return add


def _as_is(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return event
