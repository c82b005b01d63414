"""What goes over the wire to a model's server: few connections, our key, our trace, and nothing else of ours."""

import asyncio
import logging
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan

from services.inference.admission import Admission
from services.inference.backend import FinishReason
from services.inference.keys import Key
from services.inference.openai.backend import OpenAIBackend
from services.inference.registry import Registry, ServedModel
from shieldmesh import context, http
from shieldmesh.context import RequestContext
from shieldmesh.errors import UnavailableError
from shieldmesh.telemetry import Name, tracer
from shieldmesh.v1 import inference_pb2
from tests.promises.observing import observed
from tests.services.inference.serving import TIMEOUT, Stub, ask, generating, serving

from .playing import REQUEST, SECRET, asking, opened, play_all
from .upstream import WHOLE, Upstream, answer, broken, hung_up, said, unhurried, upstream

CALLS = 1_000
AT_ONCE = 8
KEY = "sk-of-the-operator"
whole = answer(*WHOLE)


@contextmanager
def elsewhere() -> Generator[Upstream]:
    """A server under a loop of a thread of its own."""
    running: list[Upstream] = []
    ready, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        async with upstream(whole) as server:
            running.append(server)
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(TIMEOUT)
        yield running[0]
    finally:
        stop.set()
        thread.join()


def test_a_thousand_generations_share_as_many_connections_as_run_at_once() -> None:
    """P9: made outside any loop, a model works under one loop after the other, and pools its connections in each."""

    async def some(backend: OpenAIBackend, places: Admission, number: int) -> None:
        async def one() -> None:
            async with places.place():
                assert await play_all(backend.generate(REQUEST)) == ("one two", FinishReason.STOP)

        async with asyncio.TaskGroup() as group:
            for _ in range(number):
                group.create_task(one())

    with elsewhere() as server, unhurried():
        backend = opened(server)
        places = Admission("m", max_running=AT_ONCE, max_waiting=CALLS)
        asyncio.run(some(backend, places, CALLS))
        assert len(server.heard) == CALLS
        assert server.accepted <= AT_ONCE
        asyncio.run(some(backend, places, AT_ONCE))
        assert len(server.heard) == CALLS + AT_ONCE
        assert server.accepted <= 2 * AT_ONCE


async def test_one_generation_after_the_other_uses_one_connection() -> None:
    """A response that was read to its end leaves its connection to the next request."""
    async with upstream(whole) as server:
        with unhurried():
            for _ in range(5):
                await play_all(asking(server))
        assert server.accepted == 1


@pytest.mark.parametrize("traced", [True, False])
async def test_the_server_hears_the_trace_if_it_may_and_nothing_else_of_ours(traced: bool) -> None:
    """Neither session nor tenant, nor anything that is only ours, leaves; the parent is the span of the request."""
    ours = RequestContext("session-1", "turn-1", "tenant-1", "profile-1", "version-1")
    with observed() as seen, tracer().start_as_current_span("turn") as span, context.use(ours):
        async with upstream(whole) as server:
            await play_all(asking(server, traceparent=traced, api_key=key()))
            await http.close()
    (heard,) = server.heard
    sent = {"traceparent"} if traced else set[str]()
    assert heard.headers.keys() == {
        *("accept", "accept-encoding", "authorization", "connection", "content-length", "content-type", "host"),
        "user-agent",
        *sent,
    }
    assert not any(word in str(heard) for word in ("session-1", "turn-1", "tenant-1", "profile-1"))
    (client,) = [each for each in seen.spans.ended if each.kind is trace.SpanKind.CLIENT]
    assert client.parent is not None
    assert client.parent.span_id == span.get_span_context().span_id
    assert client.attributes is not None
    assert client.attributes[Name.HTTP_STATUS] == 200
    if traced:
        assert set(seen.spans.traces()) & set(heard.headers["traceparent"].split("-")) == {span_id(client)}


async def test_each_attempt_is_a_span_that_ends(tmp_path: Path) -> None:
    """Through the service: two attempts, the first failed, and the generation's own attributes on the engine's span."""
    with observed() as seen:
        async with upstream(hung_up, whole) as server, serving(registry(opened(server)), tmp_path) as stub:
            last = await last_event(stub)
            await http.close()
    assert last.finished.usage.total_tokens == 9
    attempts = [span for span in seen.spans.ended if span.name == "POST"]
    assert [(span.attributes or {}).get(Name.ERROR_TYPE) for span in attempts] == ["UPSTREAM_TRUNCATED", None]
    (engine,) = [span for span in seen.spans.ended if span.name == "engine"]
    assert engine.attributes is not None
    assert (engine.attributes[Name.BACKEND], engine.attributes[Name.INPUT_TOKENS]) == ("openai", 7)


async def test_neither_key_nor_texts_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not by us and not by the library, whatever goes wrong and however much is logged."""
    caplog.set_level(logging.DEBUG)
    async with upstream(hung_up, broken(said("whatever"))) as server:
        backend = opened(server, api_key=key())
        async with serving(registry(backend), tmp_path) as stub:
            with pytest.raises(UnavailableError) as caught:
                await last_event(stub)
            await http.close()
    assert [hop.service for hop in caught.value.hops] == ["inference", "openai"]
    assert server.heard[0].headers["authorization"] == f"Bearer {KEY}"
    for word in (KEY, SECRET, "whatever"):
        assert word not in caplog.text
        assert word not in str(caught.value)
        assert word not in repr(backend.options)


async def last_event(stub: Stub) -> inference_pb2.GenerateEvent:
    """What a generation ends with."""
    async with generating(stub, ask("m", SECRET)) as events:
        return [event async for event in events][-1]


def registry(backend: OpenAIBackend) -> Registry:
    return Registry({"m": ServedModel("m", "openai", backend, Admission("m", max_running=1, max_waiting=0))})


def span_id(span: ReadableSpan) -> str:
    made = span.get_span_context()
    assert made is not None
    return trace.format_span_id(made.span_id)


def key() -> Key:
    return Key(lambda: KEY)
