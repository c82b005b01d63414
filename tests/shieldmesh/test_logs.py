"""Every log line is tied to its service, turn and trace, and holds no text of an exception."""

import asyncio
import io
import json
import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Literal

import pytest
import structlog
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from shieldmesh import context, logs, telemetry
from shieldmesh.context import RequestContext
from shieldmesh.interceptors.call import ServerIdentity

OURS = RequestContext(session_id="session-1", request_id="turn-1", tenant_id="tenant-1")


@pytest.mark.parametrize("kind", ["structlog", "standard library"])
def test_a_line_knows_where_it_belongs(kind: str) -> None:
    """Lines of ours and of libraries hold service, instance, turn, session, tenant, trace and span."""
    with logged() as stream, traced(), context.use(OURS), telemetry.span("work") as span:
        if kind == "structlog":
            structlog.stdlib.get_logger("ours").info("hello", answer=42)
        else:
            logging.getLogger("theirs").info("hello")
        said = span.get_span_context()
    line = only_line(stream)
    assert line.pop("time").endswith("Z")
    assert line.pop("answer", 42) == 42
    assert line == {
        "event": "hello",
        "level": "info",
        "service": "shield",
        "instance": "shield-1",
        "turn": "turn-1",
        "session": "session-1",
        "tenant": "tenant-1",
        "trace": f"{said.trace_id:032x}",
        "span": f"{said.span_id:016x}",
    }


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_exceptions_are_logged_without_their_texts(log_format: Literal["json", "text"]) -> None:
    """The type and the place of an exception, of its causes and of its parts are logged; what they say is not."""
    with logged(log_format) as stream:
        try:
            break_everything()
        except ExceptionGroup:
            structlog.stdlib.get_logger("ours").exception("it broke")
            logging.getLogger("theirs").exception("it broke too")
    said = stream.getvalue()
    assert said.count("ExceptionGroup at ") == 2
    assert "KeyError at " in said
    assert "(ValueError, from KeyError" in said
    assert "break_everything" in said
    assert "secret" not in said


async def test_a_task_that_nobody_waited_for_is_logged_without_its_text() -> None:
    """What asyncio says about a failed task names the exception's type alone."""
    loop = asyncio.get_running_loop()
    with logged() as stream:
        loop.set_exception_handler(logs.handle_loop_error)
        loop.call_soon(break_everything)
        await asyncio.sleep(0)
    line = only_line(stream)
    assert line["exception"].startswith("ExceptionGroup at ")
    assert "secret" not in stream.getvalue()


def test_the_text_form_is_readable() -> None:
    """For terminals a line has time, level and event first, and colours only there."""
    with logged("text") as stream:
        structlog.stdlib.get_logger("ours").warning("hello", answer=42)
    assert "[warning  ] hello answer=42" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_lines_below_the_level_are_not_written() -> None:
    """The level holds for ours and for libraries."""
    with logged(level="warning") as stream:
        structlog.stdlib.get_logger("ours").info("hello")
        logging.getLogger("theirs").info("hello")
    assert not stream.getvalue()


def test_a_log_that_nobody_can_read_ends_no_work() -> None:
    """A line that cannot be written is lost, and the work that it tells of goes on."""
    with logged() as stream:
        stream.close()
        structlog.stdlib.get_logger("ours").info("hello")


def break_everything() -> None:
    try:
        dict[str, str]()["secret key"]
    except KeyError as error:
        failure = ValueError("secret value")
        failure.__cause__ = error
        raise ExceptionGroup("secret group", [failure, raised(TypeError("secret type"))]) from error


def raised(error: Exception) -> Exception:
    try:
        raise error
    except TypeError as caught:
        return caught


def only_line(stream: io.StringIO) -> dict[str, Any]:
    (line,) = stream.getvalue().splitlines()
    parsed: dict[str, Any] = json.loads(line)
    return parsed


@contextmanager
def logged(log_format: Literal["json", "text"] = "json", level: str = "info") -> Generator[io.StringIO]:
    root = logging.getLogger()
    handlers, before, stream = root.handlers, root.level, io.StringIO()
    logs.configure(ServerIdentity("shield", "shield-1"), log_format, level, stream)
    structlog.configure(cache_logger_on_first_use=False)
    try:
        yield stream
    finally:
        root.handlers = handlers
        root.setLevel(before)
        structlog.reset_defaults()


@contextmanager
def traced() -> Generator[None]:
    with telemetry.recording(TracerProvider(shutdown_on_exit=False), MeterProvider(shutdown_on_exit=False)):
        yield
