"""Servers that fail: a typed error with what came before it kept, or another attempt where that is allowed."""

from collections.abc import Sequence

import pytest

from services.inference.backend import (
    FinishReason,
    Usage,
)
from services.inference.keys import Key
from shieldmesh.errors import (
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    MeshError,
    ResourceExhaustedError,
    UnavailableError,
)
from shieldmesh.openai.events import LONGEST_EVENT

from .playing import SECRET, asking, failure, play_all
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
        texts, error = await failure(asking(server, api_key=Key(lambda: KEY)))
        assert len(server.heard) == 1
        assert server.heard[0].headers["authorization"] == f"Bearer {KEY}"
    assert texts == []
    assert (type(error), error.reason, error.field) == (kind, reason, field)
    assert not any(word in str(error) for word in (SECRET, KEY))


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
