"""Remotes that fail again and again are left alone for a while, and called again when the while is over."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from opentelemetry.sdk.metrics.export import NumberDataPoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.shield.remote.breaker import Breaker, TroubleError
from services.shield.remote.remotes import Remotes
from services.shield.shield import ShieldError
from shieldmesh.metrics import REMOTES_OPEN
from shieldmesh.v1 import policy_pb2, shield_pb2
from tests.promises.observing import Observed, observed

from .remoting import TIMEOUT, Answer, TalkingShields, detector, remote, service
from .slow import hear

BLOCK = policy_pb2.ACTION_BLOCK
UNAVAILABLE = [("remote", BLOCK, "SHIELD_UNAVAILABLE")]
TIMED_OUT = [("remote", BLOCK, "SHIELD_TIMEOUT")]
URL = "http://detectors:80"
LONG, SHORT = 3_600.0, 1e-6


def is_open(seen: Observed) -> dict[str, int | float]:
    """The metric by URL."""
    data = seen.reader.get_metrics_data()
    return {
        str((point.attributes or {})["shieldmesh.shield.remote"]): point.value
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for each in scope.metrics
        if each.name == REMOTES_OPEN.name
        for point in each.data.data_points
        if isinstance(point, NumberDataPoint)
    }


def fail(breaker: Breaker, error: BaseException | None = None) -> None:
    with pytest.raises(BaseException), breaker.attempt():  # noqa: B017, PT011  # whatever is given
        raise error or TroubleError("SHIELD_UNAVAILABLE")


def answer(breaker: Breaker) -> None:
    with breaker.attempt() as answered:
        answered()


def refuses(breaker: Breaker) -> bool:
    try:
        with breaker.attempt():
            return False
    except ShieldError as error:
        return error.reason == "SHIELD_UNAVAILABLE"


async def test_failures_in_a_row_open_it() -> None:
    """As many as were set, and not before; an answer in between begins the count anew. Log and metric tell."""
    with observed() as seen:
        breaker = Breaker(URL, failures=2, pause=LONG)
        fail(breaker)
        answer(breaker)
        fail(breaker)
        assert (refuses(breaker), is_open(seen)) == (False, {URL: 0})
        fail(breaker, TimeoutError())
        assert (refuses(breaker), is_open(seen)) == (True, {URL: 1})
    assert [(line["event"], line["remote"]) for line in seen.warnings()] == [("remote shield left alone", URL)]


@pytest.mark.parametrize("error", [ShieldError("SHIELD_BROKEN"), asyncio.CancelledError(), GeneratorExit()])
def test_what_says_nothing_about_the_remote_does_not_count(error: BaseException) -> None:
    """A malformed answer is one, and a caller that goes away is no failure of the remote."""
    breaker = Breaker(URL, failures=1, pause=LONG)
    fail(breaker, error)
    assert not refuses(breaker)


async def test_after_the_pause_one_at_a_time_may_try() -> None:
    """The first that is answered closes it, one that fails opens it again, one that is given up lets another try."""
    with observed() as seen:
        breaker = Breaker(URL, failures=2, pause=SHORT)
        fail(breaker)
        fail(breaker)
        with breaker.attempt():
            assert refuses(breaker)
        fail(breaker, asyncio.CancelledError())
        fail(breaker)
        assert is_open(seen) == {URL: 1}
        with breaker.attempt() as answered:
            answered()
            assert not refuses(breaker)
        assert is_open(seen) == {URL: 0}
    assert [line["event"] for line in seen.lines()] == ["remote shield left alone", "remote shield answers again"]


async def test_an_open_breaker_asks_a_detector_no_more() -> None:
    """After two outages the shield fails without a request; each remote has its own count."""
    asked: list[str] = []

    async def handle(_: Request) -> Response:
        asked.append("")
        return Response(status_code=503)

    async def well(_: Request) -> Response:
        return JSONResponse([[]])

    async with detector(handle) as url, detector(well, path="/well") as other:
        remotes = Remotes([url, other], failures=2, pause=LONG)
        for _ in range(4):
            assert (await hear([await remote(url, detector_id="d", remotes=remotes)], ["owl"])).verdicts == UNAVAILABLE
        assert not (await hear([await remote(other, detector_id="d", remotes=remotes)], ["owl"])).verdicts
    assert len(asked) == 2


async def test_a_detector_that_does_not_answer_in_time_opens_it() -> None:
    """The policy's timeout ends the wait and counts as a failure."""
    asked: list[str] = []

    async def handle(request: Request) -> Response:
        asked.append("")
        while (await request.receive())["type"] != "http.disconnect":
            pass
        return Response()

    async with detector(handle) as url:
        fields: dict[str, Any] = {
            "remotes": Remotes([url], failures=1, pause=LONG),
            "timeout": Duration(seconds=2),  # the request must have come by then
        }
        shield = await remote(url, detector_id="d", **fields)
        assert (await hear([shield], ["owl"])).verdicts == TIMED_OUT
        assert (await hear([shield], ["owl"])).verdicts == UNAVAILABLE
    assert len(asked) == 1


async def test_a_service_that_comes_back_is_asked_again(tmp_path: Path) -> None:
    """Unreachable, it opens the breaker; reachable after the pause, it closes it."""

    async def talk(requests: AsyncIterator[shield_pb2.InspectStreamRequest]) -> AsyncGenerator[Answer]:
        async for _ in requests:
            pass
        yield Answer(opened=shield_pb2.InspectOpened())
        yield Answer(clearance=shield_pb2.Clearance(watermark=3, seen=3))

    url = f"unix:{tmp_path}/remote.sock"
    remotes = Remotes([url], failures=1, pause=SHORT)
    shield = await remote(url, type="t", remotes=remotes)
    async with asyncio.timeout(TIMEOUT):
        with observed() as seen:
            assert (await hear([shield], ["owl"])).verdicts == UNAVAILABLE
            assert is_open(seen) == {url: 1}
            async with service(tmp_path, TalkingShields(talk)):
                assert (await hear([shield], ["owl"])).text == "owl"
            assert is_open(seen) == {url: 0}
