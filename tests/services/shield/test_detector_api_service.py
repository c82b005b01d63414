"""The detector API as a part of the service: its trace, its silence, its beginning and its end."""

import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Final

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from services.shield.detector_api import Listening, detector_app, serving
from shieldmesh.metrics import HTTP_REQUESTS, INSPECTIONS
from shieldmesh.telemetry import Name
from tests.promises.mesh import eventually
from tests.promises.observing import Observed, observed

from .detecting import BUILT_IN, CONTENTS, TIMEOUT, Given, detect, detecting, window
from .slow import Finder

MARK: Final = "xanadu"
"""Stands in the texts of these tests, and must be in nothing that is recorded."""
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


async def test_a_request_goes_on_with_the_trace_of_its_caller() -> None:
    """The request is a span below the caller's, the shield one below that, and both count."""
    with observed() as seen:
        async with detecting() as client:
            client.headers["traceparent"] = f"00-{TRACE}-{PARENT}-01"
            answer = await detect(client, "deny_list", [MARK, f"{MARK} {MARK}"], terms=[MARK])
        assert answer.status_code == 200
        request, shield = span(seen, f"POST {CONTENTS}"), span(seen, "shield deny_list")
        assert (request.kind, parent(request), parent(shield)) == (SpanKind.SERVER, PARENT, identity(request)[1])
        assert {identity(request)[0], identity(shield)[0]} == {TRACE}
        assert dict(request.attributes or {}) == {
            Name.HTTP_METHOD: "POST",
            Name.HTTP_ROUTE: CONTENTS,
            Name.URL_SCHEME: "http",
            Name.HTTP_STATUS: 200,
        }
        assert (shield.attributes or {})[Name.FINDINGS] == 3
        assert list(seen.sums(HTTP_REQUESTS.name, Name.HTTP_STATUS)) == ["200"]
        assert list(seen.sums(INSPECTIONS.name, Name.SHIELD)) == ["deny_list"]
        assert_silent(seen)


async def test_a_failure_marks_what_failed() -> None:
    """The shield's span and the request's are failed, neither is cancelled, and the log quotes nothing."""

    async def fail() -> None:
        raise ValueError(MARK)

    with observed() as seen:
        async with detecting(Given(Finder(window(), MARK, fail))) as client:
            await detect(client, "pii", [MARK])
        request, shield = span(seen, f"POST {CONTENTS}"), span(seen, "shield given")
        assert {request.status.status_code, shield.status.status_code} == {StatusCode.ERROR}
        assert Name.CANCELLED not in {**(request.attributes or {}), **(shield.attributes or {})}
        assert (request.attributes or {})[Name.REASON] == "SHIELD_FAILED"
        assert seen.warnings()
        assert_silent(seen)


async def test_a_refusal_is_no_failure() -> None:
    """A request that is wrong ends with its status and reason, and is not the server's failure."""
    with observed() as seen:
        async with detecting() as client:
            await detect(client, MARK, [MARK])
        request = span(seen, f"POST {CONTENTS}")
        assert request.status.status_code is StatusCode.UNSET
        assert ((request.attributes or {})[Name.HTTP_STATUS], (request.attributes or {})[Name.REASON]) == (
            404,
            "NOT_FOUND",
        )
        assert not seen.warnings()
        assert_silent(seen)


async def test_a_request_of_nobody_is_cancelled() -> None:
    """When the caller goes away, the spans say that the work was given up; nothing has failed."""
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        await asyncio.sleep(TIMEOUT)

    with observed() as seen:
        async with detecting(Given(Finder(window(), MARK, work))) as client:
            asking = asyncio.create_task(detect(client, "pii", [MARK]))
            await begun.wait()
            asking.cancel()
            await eventually(lambda: len(seen.spans.ended) == 2)
        request, shield = span(seen, f"POST {CONTENTS}"), span(seen, "shield given")
        assert [(each.attributes or {})[Name.CANCELLED] for each in (request, shield)] == [True, True]
        assert {request.status.status_code, shield.status.status_code} == {StatusCode.UNSET}
        assert not seen.warnings()


async def test_what_runs_at_the_end_is_finished() -> None:
    """On leaving, new callers are refused while the running request gets its answer."""
    begun, go, leave = asyncio.Event(), asyncio.Event(), asyncio.Event()
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def work() -> None:
        begun.set()
        await go.wait()

    async def serve() -> None:
        app = detector_app(Given(Finder(window(), MARK, work)), max_characters=100, call_cap=TIMEOUT)
        async with serving(app, Listening("127.0.0.1:0", TIMEOUT, TIMEOUT)) as served:
            address.set_result(served)
            await leave.wait()

    async with asyncio.timeout(TIMEOUT), asyncio.TaskGroup() as tasks:
        server = tasks.create_task(serve())
        async with httpx.AsyncClient(base_url=f"http://{await address}", timeout=TIMEOUT) as client:
            asking = tasks.create_task(detect(client, "pii", [MARK]))
            await begun.wait()
            leave.set()
            await eventually(lambda: refuses(address.result()))
            await asyncio.sleep(0.5)  # a server that does not wait would be gone by now
            assert not server.done()
            go.set()
            assert len((await asking).json()[0]) == 1
        await server


async def test_what_outlasts_the_grace_is_stopped() -> None:
    """A request that would go on after the grace is told so, and its shield does not go on."""
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        await asyncio.sleep(TIMEOUT)

    finder = Finder(window(), MARK, work)
    app = detector_app(Given(finder), max_characters=100, call_cap=TIMEOUT)
    async with asyncio.timeout(TIMEOUT / 2):
        async with serving(app, Listening("127.0.0.1:0", TIMEOUT, drain_grace=0.1)) as address:
            client = httpx.AsyncClient(base_url=f"http://{address}", timeout=TIMEOUT)
            asking = asyncio.create_task(detect(client, "pii", [MARK]))
            await begun.wait()
        assert (await asking).json() == {"code": 503, "message": "the service stops; try again"}
    assert finder.lanes == 0
    await client.aclose()


async def test_an_idle_connection_does_not_keep_the_server() -> None:
    """A client that keeps its connection open holds up nothing."""
    app = detector_app(BUILT_IN, max_characters=100, call_cap=TIMEOUT)
    async with asyncio.timeout(TIMEOUT / 2), httpx.AsyncClient(timeout=TIMEOUT) as client:
        async with serving(app, Listening("127.0.0.1:0", TIMEOUT, TIMEOUT)) as address:
            await client.get(f"http://{address}/health")
        assert refuses(address)


async def test_a_port_in_use_is_told() -> None:
    """A second server at the same address ends with a sentence that names it and the setting."""
    app = detector_app(BUILT_IN, max_characters=100, call_cap=TIMEOUT)
    async with serving(app, Listening("127.0.0.1:0", TIMEOUT, TIMEOUT)) as address:
        with pytest.raises(SystemExit, match=f"cannot serve the detector API at {address}: .* detector_api_listen"):
            await serving(app, Listening(address, TIMEOUT, TIMEOUT)).__aenter__()


async def test_the_process_serves_both_and_stops_at_a_signal(tmp_path: Path) -> None:
    """With its setting the service answers over HTTP; after SIGTERM as long as over gRPC, and then it ends well."""
    address = free_address()
    environment = {
        **os.environ,
        "SHIELDMESH_SHIELD_LISTEN": f"unix:{tmp_path / 'shield.sock'}",
        "SHIELDMESH_SHIELD_DETECTOR_API_LISTEN": address,
        "SHIELDMESH_SHIELD_DRAIN_NOTICE": "3",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.shield", env=environment, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(2 * TIMEOUT), httpx.AsyncClient(base_url=f"http://{address}") as client:
            await logged(process, "serving")
            first = await detect(client, "pii", [f"jane@{MARK}.org"])
            process.send_signal(signal.SIGTERM)
            await logged(process, "draining")
            await asyncio.sleep(0.5)  # a server that does not wait would be gone by now
            second = await detect(client, "pii", [f"jane@{MARK}.org"])
            log = await logged(process, "stopped")
        assert [len(answer.json()[0]) for answer in (first, second)] == [1, 1]
        assert MARK not in log
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def logged(process: asyncio.subprocess.Process, event: str) -> str:
    """What the process logs up to this event."""
    assert process.stderr is not None
    log = ""
    while f'"event": "{event}"' not in log:
        line = await process.stderr.readline()
        assert line, log
        log += line.decode()
    return log


def span(seen: Observed, name: str) -> ReadableSpan:
    (found,) = [each for each in seen.spans.ended if each.name == name]
    return found


def identity(of: ReadableSpan) -> tuple[str, str]:
    """The trace and the span."""
    context = of.get_span_context()
    assert context is not None
    return format_trace_id(context.trace_id), format_span_id(context.span_id)


def parent(of: ReadableSpan) -> str:
    return format_span_id(of.parent.span_id) if of.parent else ""


def assert_silent(seen: Observed) -> None:
    data = seen.reader.get_metrics_data()
    recorded = [json.dumps([json.loads(each.to_json()) for each in seen.spans.ended]), data.to_json() if data else ""]
    assert MARK not in "".join([seen.stream.getvalue(), *recorded])


def refuses(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as caller:
        return caller.connect_ex((host, int(port))) != 0


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
