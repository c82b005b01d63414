"""Detectors over HTTP: what they find is checked and mapped into the text, and they are told what they need alone."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from services.shield.catalogue import Catalogue
from services.shield.detector_api import Listening, detector_app, serving
from services.shield.remote import detector as detectors
from services.shield.remote.findings import plain
from services.shield.remote.remotes import Remotes
from shieldmesh import context, http, telemetry
from shieldmesh.context import RequestContext
from shieldmesh.v1 import policy_pb2
from tests.promises.observing import observed

from .examples import CARD, CUTS, EMAIL, cut, texts
from .remoting import TIMEOUT, detector, remote
from .serving import spec
from .slow import hear
from .test_inspection import CATALOGUE

FLAG, REDACT, BLOCK = policy_pb2.ACTION_FLAG, policy_pb2.ACTION_REDACT, policy_pb2.ACTION_BLOCK
Handler = Callable[[Request], Awaitable[Response]]


def says(*answer: Any, status: int = 200) -> Handler:
    """A detector that says the same to everything."""

    async def handle(_: Request) -> Response:
        return Response(json.dumps(*answer), status, media_type="application/json")

    return handle


def found(start: Any, end: Any, **fields: Any) -> dict[str, Any]:
    return {"start": start, "end": end, "detection": "Word", "detection_type": "t", "score": 0.9} | fields


@settings(max_examples=15)
@given(texts(4), CUTS, st.sampled_from([FLAG, REDACT, BLOCK]))
async def test_our_own_detector_api_finds_what_the_shield_finds(
    text: str, cuts: list[int], action: policy_pb2.Action.ValueType
) -> None:
    """What leaves behind a shield that is asked over HTTP is what leaves behind it here, however the text is cut."""
    (local,) = await CATALOGUE.shields([spec("pii", name="remote", action=action, options={"region": "US"})])
    here = await hear([local], [text])
    app = detector_app(Catalogue(capacity=64, default_timeout=TIMEOUT), max_characters=1_000_000, call_cap=TIMEOUT)
    async with serving(app, Listening("127.0.0.1:0", TIMEOUT, TIMEOUT)) as address:
        shield = await remote(f"http://{address}", action=action, detector_id="pii", detector_params={"region": "US"})
        there = await hear([shield], cut(text, cuts))
        await http.close()
    assert (there.text, there.blocked, there.verdicts) == (here.text, here.blocked, here.verdicts)


async def test_a_detector_hears_what_the_policy_says() -> None:
    """Its id in the header, its parameters with integers as integers, the text, and the trace."""
    heard: list[tuple[dict[str, str], Any]] = []

    async def handle(request: Request) -> Response:
        heard.append((dict(request.headers), await request.json()))
        return JSONResponse([[found(3, 6)]])

    params = {"top": 5, "least": 0.5, "list": [1, {"a": 2}]}
    with observed(), telemetry.span("test"):
        async with detector(handle, path="/some/path") as url:
            shield = await remote(url, detector_id="one", detector_params=params)
            with context.use(RequestContext(session_id="ours", tenant_id="ours")):
                result = await hear([shield], ["an", " owl"])
        trace = telemetry.trace_id()
    assert result.text == "an [WORD]"
    ((headers, body),) = heard
    assert headers["detector-id"] == "one"
    assert headers["traceparent"].split("-")[1] == trace
    assert "ours" not in str(headers)
    expected = {"contents": ["an owl"], "detector_params": params}
    assert json.dumps(body, sort_keys=True) == json.dumps(expected, sort_keys=True)


async def test_sentences_are_asked_about_as_they_come() -> None:
    """Text leaves before its end; spans are mapped into all of the text; what two windows share is told once."""
    asked: list[str] = []

    async def handle(request: Request) -> Response:
        contents = (await request.json())["contents"]
        asked.extend(contents)
        return JSONResponse([_owls(content) for content in contents])

    def _owls(content: str) -> list[dict[str, Any]]:
        return [found(at, at + 3) for at in range(len(content)) if content.startswith("owl", at)]

    text = "An owl. ä owl. 😀 owl. My owl. The owl. A fox. An owl."
    async with detector(handle) as url:
        shield = await remote(url, detector_id="owls", window="sentences")
        marks: list[int] = []
        heard = await hear([shield], list(text), when=lambda clearance: marks.append(clearance.watermark))
    assert heard.text == text.replace("owl", "[WORD]")
    assert heard.verdicts == [("remote", REDACT, "word")] * text.count("owl")
    assert len(asked) > 1
    assert any(0 < mark < len(text) for mark in marks)


MALFORMED: list[Any] = [
    {},
    [],
    [[], []],
    [None],
    [{}],
    [[{}]],
    [["word"]],
    [[found(-1, 2)]],
    [[found(0, 7)]],
    [[found(4, 2)]],
    [[found(-3, -3)]],
    [[found("0", 2)]],
    [[found(0.5, 2)]],
    [[found(True, 2)]],
    [[found(None, 2)]],
    [[found(0, 10**30)]],
    [[found(0, 2, score=float("nan"))]],
    [[found(0, 2, score=float("inf"))]],
    [[found(0, 2, score="high")]],
    [[found(0, 2, score=None)]],
    [[found(0, 2, detection=7)]],
    [[found(0, 2, detection_type=None)]],
    [[found(0, 2), found(0, 9)]],
]


NO_JSON = [b"", b"no JSON", b"[[", b"\xff", b"[" * 100_000, b'[[{"start": 1e999}]]', b"[[]] trailing"]


async def test_a_malformed_answer_is_a_failure() -> None:
    """Wrong shapes, spans outside the text, numbers that are none, no JSON: never a crash, and never a pass."""
    bodies = [*(json.dumps(answer).encode() for answer in MALFORMED), *NO_JSON]
    left = iter(bodies)

    async def handle(_: Request) -> Response:
        return Response(next(left), media_type="application/json")

    async with detector(handle) as url:
        shield = await remote(url, detector_id="d")
        results = {body[:80]: await hear([shield], ["an owl"]) for body in bodies}
    broken = ("", [("remote", BLOCK, "SHIELD_BROKEN")])
    assert {body: (heard.text, heard.verdicts) for body, heard in results.items()} == dict.fromkeys(results, broken)


STATUSES = {
    204: "SHIELD_BROKEN",
    **dict.fromkeys([400, 401, 404, 422], "SHIELD_REFUSED"),
    500: "SHIELD_FAILED",
    **dict.fromkeys([429, 502, 503, 504], "SHIELD_UNAVAILABLE"),
}


async def test_a_status_other_than_200_is_a_failure() -> None:
    """With a reason that tells a refusal, a defect and an outage apart; no log says what the server said."""
    left = iter(STATUSES)

    async def handle(_: Request) -> Response:
        status = next(left)
        return PlainTextResponse("" if status == 204 else "the text was: an owl", status)

    with observed() as seen:
        async with detector(handle) as url:
            shield = await remote(url, detector_id="d")
            reasons = {status: (await hear([shield], ["an owl"])).verdicts for status in STATUSES}
    assert reasons == {status: [("remote", BLOCK, reason)] for status, reason in STATUSES.items()}
    assert "owl" not in seen.stream.getvalue()


async def test_a_redirect_leads_nowhere() -> None:
    """A server that may be called cannot send us to one that may not."""
    called: list[str] = []

    async def elsewhere(_: Request) -> Response:
        called.append("elsewhere")
        return JSONResponse([[]])

    async with detector(elsewhere) as target:

        async def handle(_: Request) -> Response:
            return RedirectResponse(f"{target}/api/v1/text/contents", 307)

        async with detector(handle) as url:
            heard = await hear([await remote(url, detector_id="d")], ["an owl"])
    assert (heard.verdicts, called) == ([("remote", BLOCK, "SHIELD_BROKEN")], [])


async def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more of it is kept than an answer may have."""
    monkeypatch.setattr(detectors, "MAX_ANSWER", 1_000)
    async with detector(says([[found(0, 2, text="x" * 2_000)]])) as url:
        heard = await hear([await remote(url, detector_id="d")], ["an owl"])
    assert heard.verdicts == [("remote", BLOCK, "SHIELD_BROKEN")]


async def test_a_text_without_end_is_not_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that is longer than a detector is shown at once is a failure of the shield."""
    monkeypatch.setattr(detectors, "MAX_CHARACTERS", 5)
    async with detector(says([[]])) as url:
        heard = await hear([await remote(url, detector_id="d")], ["an", " owl"])
    assert heard.verdicts == [("remote", BLOCK, "TEXT_TOO_LONG")]


@pytest.mark.parametrize(
    ("text", "answer", "left", "kinds"),
    [
        ("an owl", [[found(0, 0)]], "[WORD]", ["word"]),
        ("an owl", [[found(6, 6)]], "[WORD]", ["word"]),
        ("", [[found(0, 0)]], "", ["word"]),
        ("an owl", [[found(3, 6, score=-4), found(0, 2, score=9)]], "[WORD] [WORD]", ["word", "word"]),
        ("an owl", [[found(0, 2, text="something else", evidences=None, metadata={"a": [1]})]], "[WORD] owl", ["word"]),
    ],
)
async def test_what_detectors_do_beside_the_contract(text: str, answer: Any, left: str, kinds: list[str]) -> None:
    """A detection of nothing is about all of the text; scores are clamped; fields that nobody knows mean nothing."""
    async with detector(says(answer)) as url:
        heard = await hear([await remote(url, detector_id="d")], [text])
    assert heard.text == left
    assert heard.verdicts == [("remote", REDACT, kind) for kind in kinds]


async def test_either_name_of_a_detection_can_be_the_kind() -> None:
    """Detectors differ in which of the two says what was found."""
    async with detector(says([[found(0, 2, detection="EmailAddress", detection_type="PII")]])) as url:
        for kind_from, text in (("detection", "[EMAIL_ADDRESS] owl"), ("detection_type", "[PII] owl")):
            heard = await hear([await remote(url, detector_id="d", kind_from=kind_from)], ["an owl"])
            assert heard.text == text


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("EmailAddress", "email_address"),
        ("S1", "s1"),
        ("violent crime!", "violent_crime"),
        ("über", "ber"),
        ("", "finding"),
        ("\n\x00", "finding"),
        ("a-b_c", "a-b_c"),
        ("X" * 100, "x" * 64),
    ],
)
def test_kinds_are_names_that_a_policy_can_say(name: str, kind: str) -> None:
    """Whatever detectors call what they find."""
    assert plain(name) == kind


async def test_credentials_go_to_their_server_alone() -> None:
    """The header goes to what lies at or below the URL it was set for, and into no log line and no other object."""
    secret = "Bearer c2VjcmV0"
    headers: list[str] = []

    async def handle(request: Request) -> Response:
        headers.append(request.headers.get("authorization", ""))
        return JSONResponse([[]] if len(headers) < 3 else {})

    with observed() as seen:
        async with detector(handle, path="/a") as url, detector(handle) as other:
            remotes = Remotes([url, other], authorizations={url: secret})
            for each in (url, other, url):
                await hear([await remote(each, detector_id="d", remotes=remotes)], [CARD])
            assert "c2VjcmV0" not in repr(remotes)
    assert headers == [secret, "", secret]
    assert "c2VjcmV0" not in seen.stream.getvalue()
    assert CARD not in seen.stream.getvalue()


async def test_credentials_of_a_service_need_tls() -> None:
    """A header that would travel in plain text is refused when the settings are read."""
    with pytest.raises(ValueError, match="grpcs://"):
        Remotes(authorizations={"grpc://shields:50052": "Bearer x"})
    remotes = Remotes(authorizations={"grpcs://shields:50052": "Bearer x"})
    assert remotes.credentials("grpcs://shields:50052") is remotes.credentials("grpcs://shields:50052")
    assert remotes.credentials("grpcs://other:50052") is not remotes.credentials("grpcs://shields:50052")
    assert remotes.credentials("grpc://shields:50052") is None


async def test_a_text_that_nobody_waits_for_is_asked_about_no_longer() -> None:
    """The request ends when its lane is left."""
    asked, gone = asyncio.Event(), asyncio.Event()

    async def handle(request: Request) -> Response:
        await request.body()
        asked.set()
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone.set()
        return JSONResponse([[]])

    async with detector(handle) as url, asyncio.timeout(TIMEOUT):
        shield = await remote(url, detector_id="d")
        waiting = asyncio.create_task(hear([shield], [f"{EMAIL} owl"]))
        await asked.wait()
        waiting.cancel()
        await asyncio.wait([waiting])
        await gone.wait()


async def test_one_connection_serves_one_text_after_another() -> None:
    """Requests of a loop to a server share its connections."""
    peers: list[Any] = []

    async def handle(request: Request) -> Response:
        peers.append(request.client)
        return JSONResponse([[]])

    async with detector(handle) as url:
        for _ in range(5):
            await hear([await remote(url, detector_id="d")], ["an owl"])
    assert len(peers) == 5
    assert len(set(peers)) == 1
