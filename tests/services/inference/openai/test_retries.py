"""When a failing server is asked again, and when it is left alone."""

import pytest

from services.inference.backend import (
    FinishReason,
)
from shieldmesh.errors import (
    ResourceExhaustedError,
)

from .playing import REQUEST, asking, failure, opened, play_all
from .upstream import (
    WHOLE,
    answer,
    broken,
    refused,
    said,
    upstream,
)

whole = answer(*WHOLE)


async def test_attempts_are_few_and_the_last_error_is_told() -> None:
    """A server that always fails is asked `attempts` times."""
    async with upstream(refused(500)) as server:
        _, error = await failure(asking(server, retries={"pause": 0.001, "attempts": 4}))
        assert len(server.heard) == 4
    assert (error.reason, len(error.hops)) == ("UPSTREAM_FAILED", 1)


async def test_the_budget_ends_retries_when_most_requests_fail() -> None:
    """Below half of its budget, a model sends no request twice, until enough do well."""
    async with upstream(*[refused(500)] * 7, whole) as server:
        backend = opened(server, retries={"pause": 0.001, "attempts": 3, "budget": 10}, circuit={"failures": 1000})
        heard: list[int] = []
        for _ in range(4):
            await failure(backend.generate(REQUEST))
            heard.append(len(server.heard))
        assert heard == [3, 5, 6, 7]
        for _ in range(40):
            await play_all(backend.generate(REQUEST))
        server.plays, server.heard = [refused(500), whole], []
        assert await play_all(backend.generate(REQUEST)) == ("one two", FinishReason.STOP)


async def test_retry_after_counts_instead_of_the_pause() -> None:
    """A server that says "at once" is asked at once, however long the pause would be."""
    async with upstream(refused(429, retry_after="0"), refused(503, retry_after_ms="1"), whole) as server:
        assert await play_all(asking(server, retries={"pause": 60})) == ("one two", FinishReason.STOP)


@pytest.mark.parametrize("wait", ["3600", "Wed, 21 Oct 2099 07:28:00 GMT"])
async def test_a_wait_beyond_the_limit_is_the_callers_to_decide(wait: str) -> None:
    """A server that asks for more time than there is gets no second request, and the caller hears when to try."""
    async with upstream(refused(429, retry_after=wait), whole) as server:
        _, error = await failure(asking(server))
        assert len(server.heard) == 1
    assert (type(error), error.retry_after) == (ResourceExhaustedError, 3600)


@pytest.mark.parametrize("wait", ["soon", "Nonsense, 99 Oct", "nan", ""])
async def test_a_retry_after_that_says_nothing_is_ignored(wait: str) -> None:
    """The pause counts then."""
    async with upstream(refused(429, retry_after=wait), whole) as server:
        assert await play_all(asking(server)) == ("one two", FinishReason.STOP)


async def test_the_breaker_opens_and_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """After some failures the server is left alone; after the pause one request tries, and its success closes it."""
    now = [1000.0]
    monkeypatch.setattr("circuitbreaker.monotonic", lambda: now[0])
    async with upstream(refused(500), broken(said("one")), refused(500), whole) as server:
        backend = opened(server, retries={"attempts": 1}, circuit={"failures": 2, "pause": 10})
        reasons = [(await failure(backend.generate(REQUEST)))[1].reason for _ in range(4)]
        assert reasons == ["UPSTREAM_FAILED", "UPSTREAM_TRUNCATED", "CIRCUIT_OPEN", "CIRCUIT_OPEN"]
        assert len(server.heard) == 2
        now[0] += 11
        reasons = [(await failure(backend.generate(REQUEST)))[1].reason for _ in range(2)]
        assert reasons == ["UPSTREAM_FAILED", "CIRCUIT_OPEN"]
        now[0] += 11
        for _ in range(2):
            assert await play_all(backend.generate(REQUEST)) == ("one two", FinishReason.STOP)


async def test_a_breaker_that_opens_between_attempts_hides_no_error() -> None:
    """The caller hears what the server did, not that it was left alone after that."""
    async with upstream(refused(500)) as server:
        backend = opened(server, circuit={"failures": 2})
        _, error = await failure(backend.generate(REQUEST))
        assert (error.reason, len(server.heard)) == ("UPSTREAM_FAILED", 2)


async def test_wrong_requests_do_not_open_the_breaker() -> None:
    """A server that refuses requests is there."""
    async with upstream(refused(400)) as server:
        backend = opened(server, circuit={"failures": 1})
        reasons = {(await failure(backend.generate(REQUEST)))[1].reason for _ in range(3)}
    assert reasons == {"UPSTREAM_REFUSED"}
