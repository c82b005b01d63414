"""Servers that fail: a typed error with what came before it kept, or another attempt where that is allowed."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

import pytest
from pydantic import SecretStr

from services.inference.backend import (
    Finish,
    FinishReason,
    Step,
    Usage,
)
from services.inference.openai.answer import Answer
from services.inference.openai.backend import OpenAIBackend
from services.inference.openai.chunks import ChunkReader
from services.inference.openai.events import LONGEST_EVENT
from shieldmesh.errors import (
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    MeshError,
    ResourceExhaustedError,
    UnavailableError,
)
from tests.services.inference.serving import TIMEOUT, eventually

from .playing import REQUEST, SECRET, asking, failure, opened, play_all
from .upstream import (
    DONE,
    STOPPED,
    USAGE,
    WHOLE,
    Play,
    answer,
    broken,
    event,
    hung_up,
    options,
    refused,
    said,
    silent,
    stalled,
    upstream,
)

KEY = "sk-of-the-operator"

whole = answer(*WHOLE)


@pytest.mark.parametrize(
    ("play", "kind", "reason"),
    [
        (broken(said("one")), UnavailableError, "UPSTREAM_TRUNCATED"),
        (answer(said("one")), UnavailableError, "UPSTREAM_TRUNCATED"),
        (answer(said("one"), b"data: {\n\n", DONE), InternalError, "UPSTREAM_MALFORMED"),
        (answer(said("one"), b"data: [1]\n\n", DONE), InternalError, "UPSTREAM_MALFORMED"),
        (answer(said("one"), event({"choices": [{"delta": {"content": 7}}]})), InternalError, "UPSTREAM_MALFORMED"),
        (answer(said("one"), b"data: \xff\xfe\n\n", DONE), InternalError, "UPSTREAM_MALFORMED"),
        (answer(said("one"), b"data: " + b"x" * LONGEST_EVENT), InternalError, "UPSTREAM_MALFORMED"),
        (answer(said("one"), event({"error": {"message": SECRET, "code": 500}})), UnavailableError, "UPSTREAM_FAILED"),
        (answer(said("one") + event({"error": SECRET})), UnavailableError, "UPSTREAM_FAILED"),
        (answer(said("one"), event({"object": "error", "message": SECRET})), UnavailableError, "UPSTREAM_FAILED"),
        (answer(said("one"), event({"error": {"code": 429}})), ResourceExhaustedError, "UPSTREAM_BUSY"),
        (
            answer(said("one"), event({"choices": [{"delta": {}, "finish_reason": "abort"}]}), DONE),
            UnavailableError,
            "UPSTREAM_TRUNCATED",
        ),
    ],
)
async def test_what_fails_after_the_first_token_is_told_and_not_tried_again(
    play: Play, kind: type[MeshError], reason: str
) -> None:
    """What came before arrives and is counted; then one typed error, with the server as the end of its path."""
    async with upstream(play, whole) as server:
        generation = asking(server)
        texts, error = await failure(generation)
    assert texts == ["one"]
    assert generation.usage.completion == 1
    assert (type(error), error.reason) == (kind, reason)
    assert [(hop.service, hop.method, hop.reason) for hop in error.hops] == [
        ("openai", "POST chat/completions", reason)
    ]
    assert len(server.heard) == 1
    assert SECRET not in str(error)


@pytest.mark.parametrize(
    "play",
    [
        hung_up,
        options,
        broken(),
        answer(),
        refused(500),
        refused(503, retry_after="0"),
        refused(429, {"error": {"code": "rate_limit_exceeded"}}),
        refused(408),
        answer(event({"error": {"message": "overloaded"}})),
    ],
)
async def test_what_fails_before_the_first_token_is_tried_again(play: Play) -> None:
    """The second attempt's answer is the answer, and its usage the usage."""
    async with upstream(play, whole) as server:
        generation = asking(server)
        assert await play_all(generation) == ("one two", FinishReason.STOP)
        assert len(server.heard) == 2
    assert generation.usage == Usage(prompt=7, cached=3, completion=2)


@pytest.mark.parametrize(
    ("play", "kind", "reason", "field"),
    [
        (refused(400, {"error": {"message": SECRET}}), InvalidArgumentError, "UPSTREAM_REFUSED", ""),
        (
            refused(400, {"error": {"message": SECRET, "param": "temperature"}}),
            InvalidArgumentError,
            "UPSTREAM_REFUSED",
            "sampling.temperature",
        ),
        (
            refused(400, {"error": {"param": "messages[0].content"}}),
            InvalidArgumentError,
            "UPSTREAM_REFUSED",
            "messages",
        ),
        (
            refused(400, {"error": {"message": "This model's maximum context length is 5 tokens"}}),
            InvalidArgumentError,
            "CONTEXT_TOO_LONG",
            "messages",
        ),
        (
            refused(400, {"error": {"code": "context_length_exceeded"}}),
            InvalidArgumentError,
            "CONTEXT_TOO_LONG",
            "messages",
        ),
        (refused(413), InvalidArgumentError, "CONTEXT_TOO_LONG", "messages"),
        (refused(401, {"error": SECRET}), FailedPreconditionError, "UPSTREAM_UNAUTHENTICATED", ""),
        (refused(403), FailedPreconditionError, "UPSTREAM_UNAUTHENTICATED", ""),
        (refused(404, {"error": {"message": SECRET}}), FailedPreconditionError, "UPSTREAM_NOT_FOUND", ""),
        (refused(307, location="http://127.0.0.1:1"), FailedPreconditionError, "UPSTREAM_NOT_FOUND", ""),
        (
            refused(429, {"error": {"code": "insufficient_quota", "message": SECRET}}),
            ResourceExhaustedError,
            "UPSTREAM_QUOTA",
            "",
        ),
        (answer(*WHOLE, kind="application/json"), InternalError, "UPSTREAM_MALFORMED", ""),
        (answer(b"data: garbage\n\n"), InternalError, "UPSTREAM_MALFORMED", ""),
    ],
)
async def test_what_another_attempt_would_not_help_is_told_at_once(
    play: Play, kind: type[MeshError], reason: str, field: str
) -> None:
    """One attempt, one typed error; neither what the server said nor the key is in it."""
    async with upstream(play, whole) as server:
        texts, error = await failure(asking(server, api_key=SecretStr(KEY)))
        assert len(server.heard) == 1
        assert server.heard[0].headers["authorization"] == f"Bearer {KEY}"
    assert texts == []
    assert (type(error), error.reason, error.field) == (kind, reason, field)
    assert not any(word in str(error) for word in (SECRET, KEY))


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


async def test_a_server_that_is_not_there_is_unreachable() -> None:
    """Nobody listens: UPSTREAM_UNREACHABLE, after all attempts."""
    async with upstream(whole) as server:
        pass
    _, error = await failure(asking(server))
    assert (type(error), error.reason) == (UnavailableError, "UPSTREAM_UNREACHABLE")


@pytest.mark.parametrize(
    "pieces",
    [
        (said("one"), said(" two"), event(STOPPED), event(USAGE)),
        (said("one"), said(" two"), event(USAGE), DONE),
        (b": hello\r\n\r\n", *(piece.replace(b"\n", b"\r\n") for piece in WHOLE)),
        (b"event: x\nid: 7\nretry: 1\n" + said("one"), b": keep-alive\n\n", said(" two"), event(STOPPED), event(USAGE)),
        (b"".join(WHOLE),),
    ],
    ids=["no [DONE]", "no finish_reason", "comments and CRLF", "other fields", "all at once"],
)
async def test_what_servers_do_differently_is_understood(pieces: Sequence[bytes]) -> None:
    """The answer is whole, and so is its usage."""
    async with upstream(answer(*pieces)) as server:
        generation = asking(server)
        assert await play_all(generation) == ("one two", FinishReason.STOP)
    assert generation.usage == Usage(prompt=7, cached=3, completion=2)


async def test_an_answer_that_is_whole_needs_no_good_end() -> None:
    """After the finish reason a cut harms nothing; the tokens that were seen are the usage."""
    async with upstream(broken(said("one"), event(STOPPED))) as server:
        generation = asking(server)
        assert await play_all(generation) == ("one", FinishReason.STOP)
    assert generation.usage == Usage(completion=1)


async def test_a_character_in_two_reads_arrives_whole() -> None:
    """Wherever the bytes are cut, no character is."""
    sent = b"".join([said("a🦜"), said("é漢"), event(STOPPED), DONE])
    async with upstream(answer(*(sent[at : at + 1] for at in range(len(sent))))) as server:
        assert await play_all(asking(server)) == ("a🦜é漢", FinishReason.STOP)


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


@pytest.mark.parametrize("play", [silent, stalled(), stalled(said("one"))])
async def test_cancelling_closes_the_connection(play: Play) -> None:
    """Wherever the server is in its work, it sees that nobody wants the rest."""
    async with upstream(play) as server:
        task = asyncio.create_task(play_all(asking(server)))
        await eventually(lambda: len(server.heard) == 1)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await eventually(lambda: server.open == 0)


async def test_a_reader_that_leaves_closes_the_connection() -> None:
    """Also between two reads, and not only when the garbage collector comes round to it."""
    kept: list[Answer] = []

    class Keeping(OpenAIBackend):
        def answer(self, reader: ChunkReader) -> Answer:
            kept.append(super().answer(reader))
            return kept[-1]

    async with upstream(stalled(said("one"))) as server:
        async with aclosing(Keeping("model", options(server)).generate(REQUEST).batches()) as batches:
            assert await anext(batches)
        await eventually(lambda: server.open == 0)
    assert len(kept) == 1


async def test_cancelling_ends_the_pause_before_another_attempt() -> None:
    """Nothing is sent any more."""
    async with upstream(refused(429, retry_after="20")) as server:
        task = asyncio.create_task(play_all(asking(server)))
        await eventually(lambda: len(server.heard) == 1)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


@pytest.mark.parametrize("play", [silent, stalled(), stalled(said("one")), refused(429, retry_after="20")])
async def test_stop_ends_it_where_it_is(play: Play) -> None:
    """The batches just end, the connection closes, and what was seen is the usage."""
    async with upstream(play) as server:
        generation = asking(server)
        seen: list[Step] = []

        async def follow() -> None:
            async with aclosing(generation.batches()) as batches:
                async for batch in batches:
                    seen.extend(batch)

        task = asyncio.create_task(follow())
        await eventually(lambda: len(server.heard) == 1)
        generation.stop()
        async with asyncio.timeout(TIMEOUT):
            await task
        assert generation.usage.completion == len(seen)
        assert not any(isinstance(step, Finish) for step in seen)


async def test_stop_before_it_runs_asks_nobody() -> None:
    """A generation that is stopped first sends nothing."""
    async with upstream(whole) as server:
        generation = asking(server)
        generation.stop()
        async with aclosing(generation.batches()) as batches:
            assert [batch async for batch in batches] == []
        assert server.heard == []
