"""The detector API over a real socket: what it finds, and how it refuses what it cannot use."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any, Final

import pytest

from services.shield.detector_api.wire import MAX_CONTENTS
from services.shield.texts import AT_ONCE
from shieldmesh.profile.options import SHIELD_TYPES

from .detecting import CONTENTS, MAX_CHARACTERS, TIMEOUT, Given, detect, detecting, window
from .examples import CARD, EMAIL
from .slow import Finder

MARK: Final = "xanadu"
"""Stands in the requests of these tests, and in no answer that refuses one."""
JSON: Final = {"content-type": "application/json"}
PII: Final = {**JSON, "detector-id": "pii"}
REFUSED: Final[tuple[tuple[dict[str, str], object, int, str], ...]] = (
    (JSON, {"contents": []}, 422, "detector-id: the header is missing, expected one of "),
    ({**JSON, "detector-id": MARK}, {"contents": [MARK]}, 404, "detector-id: there is no such detector, expected "),
    ({**PII, "content-type": "text/plain"}, {"contents": []}, 422, "content-type: expected application/json"),
    (PII, f"{MARK}", 422, "the body is not JSON in UTF-8: "),
    (PII, b'{"contents": ["\xff"]}', 422, "the body is not JSON in UTF-8: "),
    (PII, rb'{"contents": ["\ud800"]}', 422, "the body is not JSON in UTF-8: "),
    (PII, "[" * 10_000, 422, "the body is not JSON in UTF-8: "),
    (PII, [MARK], 422, "body: "),
    (PII, {}, 422, "contents: "),
    (PII, {"contents": MARK}, 422, "contents: "),
    (PII, {"contents": ["", {MARK: 1}]}, 422, "contents[1]: "),
    (PII, {"contents": [""] * (MAX_CONTENTS + 1)}, 422, "contents: "),
    (PII, {"contents": [MARK, "x" * MAX_CHARACTERS]}, 422, f"contents: at most {MAX_CHARACTERS} characters "),
    (PII, {"contents": ["x" * 2_000_000]}, 422, "the body is too large: at most "),
    (PII, {"contents": [], "detector_params": None}, 422, "detector_params: "),
    (PII, {"contents": [], "detector_params": {"region": MARK}}, 422, "detector_params.region: "),
    (PII, {"contents": [], "detector_params": {"other": MARK}}, 422, "detector_params.other: "),
    (PII, {"contents": [], "detector_params": {"kinds": ["email", 1]}}, 422, "detector_params.kinds[1]: "),
    (PII, '{"contents": [], "detector_params": {"region": 1e999}}', 422, "detector_params: a number is too large"),
    (PII, f'{{"contents": [], "detector_params": {{"a": {"9" * 400}}}}}', 422, "detector_params: a number is too "),
    (
        PII,
        f'{{"contents": [], "detector_params": {{"a": {"[" * 60}{"]" * 60}}}}}',
        422,
        "detector_params: a number",
    ),
)
"""Headers and body of a request, the status that it gets, and how the message begins."""


async def test_findings_come_by_content_and_place() -> None:
    """A list for each content, in code points, with what stands there, its kind and the detector."""
    async with detecting() as client:
        answer = await detect(client, "pii", [f"😀 {EMAIL}, {CARD}", "nothing", EMAIL])
    same: dict[str, Any] = {"detection_type": "pii", "score": 1.0, "evidence": [], "metadata": {}}
    assert answer.status_code == 200
    assert answer.json() == [
        [
            {"start": 2, "end": 22, "text": EMAIL, "detection": "email", **same},
            {"start": 24, "end": 43, "text": CARD, "detection": "payment_card", **same},
        ],
        [],
        [{"start": 0, "end": 20, "text": EMAIL, "detection": "email", **same}],
    ]


async def test_the_params_are_the_options_of_the_shield() -> None:
    """The same content is judged by what each request asks for."""
    async with detecting() as client:
        plain = await detect(client, "deny_list", ["a Bluebird"], terms=["bluebird"])
        exact = await detect(client, "deny_list", ["a Bluebird"], terms=["bluebird"], case_sensitive=True)
    assert [[each["text"] for each in answer.json()[0]] for answer in (plain, exact)] == [["Bluebird"], []]


async def test_every_type_is_a_detector() -> None:
    """Each built-in type is known by its name: it answers, or says which option it needs."""
    async with detecting() as client:
        answers = {name: await detect(client, name, ["text"]) for name in SHIELD_TYPES}
    assert {answer.status_code for answer in answers.values()} == {200, 422}
    for name, answer in answers.items():
        fields = SHIELD_TYPES[name].options.model_fields.items()
        required = [each.alias or key for key, each in fields if each.is_required()]
        expected: Any = {"code": 422, "message": f"detector_params.{required[0]}: it is required"} if required else [[]]
        assert answer.json() == expected


async def test_contents_keep_their_order() -> None:
    """Contents that are inspected side by side, in more than one go, are answered as they came."""
    contents = [f"term{number}" for number in range(100, 101 + 2 * AT_ONCE)]
    async with detecting() as client:
        answer = await detect(client, "deny_list", contents, terms=contents)
    assert [[each["text"] for each in found] for found in answer.json()] == [[content] for content in contents]


async def test_what_cannot_be_used_is_refused(subtests: pytest.Subtests) -> None:
    """The status and the error are those of the API; the message names the place and quotes nothing."""
    async with detecting() as client:
        for headers, body, status, message in REFUSED:
            with subtests.test(message):
                content = body if isinstance(body, str | bytes) else json.dumps(body)
                answer = await client.post(CONTENTS, headers=headers, content=content)
                assert answer.json().keys() == {"code", "message"}
                assert (answer.status_code, answer.json()["code"]) == (status, status)
                assert answer.json()["message"].startswith(message)
                assert MARK not in answer.text


async def test_a_body_that_does_not_tell_its_length_is_refused_when_it_is_too_large() -> None:
    """What comes is counted, whatever the headers say or leave out."""

    async def pieces() -> AsyncGenerator[bytes]:
        for _ in range(40):
            yield b" " * 65_536

    async with detecting() as client:
        answer = await client.post(CONTENTS, headers=PII, content=pieces())
    assert (answer.status_code, answer.json()["code"]) == (422, 422)
    assert answer.json()["message"].startswith("the body is too large: ")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", CONTENTS, 405), ("POST", "/health", 405), ("POST", "/api/v1/text/chat", 404), ("GET", "/", 404)],
)
async def test_errors_of_http_have_the_same_form(method: str, path: str, status: int) -> None:
    """What is not served is refused as an error of the API, too."""
    async with detecting() as client:
        answer = await client.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, status)
    assert ("allow" in answer.headers) == (status == 405)


async def test_health_answers() -> None:
    """Whoever asks hears that the server runs."""
    async with detecting() as client:
        answer = await client.get("/health")
    assert (answer.status_code, answer.json()) == (200, "ok")


async def _fail() -> None:
    raise ValueError(MARK)


@pytest.mark.parametrize(
    ("finder", "call_cap", "status"),
    [
        (Finder(window(), MARK, _fail), TIMEOUT, 500),
        (Finder(window(timeout=0.01), MARK, lambda: asyncio.sleep(TIMEOUT)), TIMEOUT, 504),
        (Finder(window(), MARK, lambda: asyncio.sleep(TIMEOUT)), 0.01, 504),
    ],
    ids=["fails", "takes too long", "request takes too long"],
)
async def test_a_detector_that_fails_is_no_detector_that_finds_nothing(
    finder: Finder, call_cap: float, status: int
) -> None:
    """A failure is an error without its text, and not an empty list."""
    async with detecting(Given(finder), call_cap) as client:
        answer = await detect(client, "pii", ["one", MARK])
    assert (answer.status_code, answer.json()["code"]) == (status, status)
    assert MARK not in answer.text
    assert finder.lanes == 0


async def test_a_slow_shield_is_heard() -> None:
    """What a shield finds that waits for something is answered like what others find."""
    async with detecting(Given(Finder(window(), MARK, lambda: asyncio.sleep(0)))) as client:
        answer = await detect(client, "pii", ["", f"no {MARK}."])
    (nothing, (found,)) = answer.json()
    assert (nothing, found["start"], found["end"], found["text"], found["score"]) == ([], 3, 9, MARK, 0.9)


async def test_a_caller_that_leaves_stops_the_work() -> None:
    """When the caller closes the connection, the detector is stopped."""
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.sleep(TIMEOUT)
        finally:
            stopped.set()

    async with asyncio.timeout(TIMEOUT / 2), detecting(Given(Finder(window(), MARK, work))) as client:
        asking = asyncio.create_task(detect(client, "pii", [MARK]))
        await begun.wait()
        asking.cancel()
        await stopped.wait()
    with pytest.raises(asyncio.CancelledError):
        await asking
