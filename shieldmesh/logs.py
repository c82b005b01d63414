"""Logs: one JSON object a line, or a readable form for terminals, each line tied to its turn and trace.

What users and models say is in no line. Exceptions can quote it, so of those only the type and the place are written.
"""

import asyncio
import logging
import sys
import traceback
from contextlib import suppress
from typing import Any, Final, Literal, TextIO, cast

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, Processor, WrappedLogger

from shieldmesh import context
from shieldmesh.interceptors.call import ServerIdentity

_log: Final = structlog.stdlib.get_logger("shieldmesh.loop")


def configure(
    server: ServerIdentity, log_format: Literal["json", "text"], level: str, stream: TextIO | None = None
) -> None:
    """Sends all logs of this process, those of libraries too, to standard error or the given stream."""
    to = stream or sys.stderr
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _identity(server),
        _exceptions_without_texts,
    ]
    last: Processor = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=to.isatty(), pad_event_to=0, timestamp_key="time")
    )
    # Lines of ours go straight to the stream: on the way through the standard library they would cost twice as much.
    structlog.configure(
        processors=[*shared, last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Lines(to),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(to)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last]
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # It tells of every request, in the middle of those who made it: spans do that.
    logging.getLogger("httpx").setLevel(logging.WARNING)


class _Lines:
    """Writes lines, as far as there is somewhere to write them: no work fails because nobody reads its log."""

    def __init__(self, to: TextIO) -> None:
        self._to = to

    def msg(self, line: str) -> None:
        """Writes a line, in one piece."""
        with suppress(OSError, ValueError):
            self._to.write(line + "\n")
            self._to.flush()

    debug = info = warning = error = critical = msg


def handle_loop_error(_loop: asyncio.AbstractEventLoop, details: dict[str, Any]) -> None:
    """An event loop's exception handler: says what went wrong, as asyncio's own does, without the exception's text.

    Any: what asyncio passes differs per case.
    """
    error = details.get("exception")
    _log.error(str(details.get("message", "an event loop failed")), exc_info=error or False)


def _identity(server: ServerIdentity) -> Processor:
    def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        ours = context.current()
        event["service"], event["instance"] = server.service, server.instance
        for key, value in (("turn", ours.request_id), ("session", ours.session_id), ("tenant", ours.tenant_id)):
            if value:
                event.setdefault(key, value)
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            event["trace"] = trace.format_trace_id(span.trace_id)
            event["span"] = trace.format_span_id(span.span_id)
        return event

    return add


def _exceptions_without_texts(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    given: object = event.pop("exc_info", None)
    if isinstance(given, tuple):
        given = cast("tuple[object, ...]", given)[1]
    elif given is True:
        given = sys.exception()
    if isinstance(given, BaseException):
        event["exception"] = describe(given)
    return event


def describe(error: BaseException) -> str:
    """An exception as its type and the way it took, innermost place last: "ValueError at a.py:3 f > b.py:7 g"."""
    places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    said = f"{type(error).__name__} at {' > '.join(places)}" if places else type(error).__name__
    if isinstance(error, BaseExceptionGroup):
        parts = cast("BaseExceptionGroup[BaseException]", error).exceptions
        said += f" ({'; '.join(map(describe, parts))})"
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return f"{said}, from {describe(cause)}" if cause is not None else said
