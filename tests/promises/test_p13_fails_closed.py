"""P13: a shield that errors or times out counts as its policy says: closed blocks, open passes; a verdict says so.

Each failure is met by real turns through the whole mesh, on the way in and on the way out. What is asked of remote
shields, and killed, is real: services on sockets, detectors over HTTP, and a process that gets SIGKILL.
"""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import shieldmesh
from services.shield.match import MatchLane
from services.shield.remote.remotes import Remotes
from services.shield.service import open_service
from services.shield.whole.language import LanguageCheck
from shieldmesh import Action, Delta, Finished, FinishReason, Verdict, channels
from shieldmesh.v1 import shield_pb2
from tests.services.shield.remoting import Answer, TalkingShields, detector, service

from .mesh import REPLAY, TIMEOUT, Mesh, OpenService, deny, eventually, running
from .observing import observed

SECRET: Final = "what the exception says"
SHORT: Final = 0.25
"""Seconds that a shield gets which never answers."""
NEVER: Final = 3_600.0


@dataclass(frozen=True)
class Failing:
    """A shield that fails, as a profile has it, and the reason that verdicts must tell."""

    shield: dict[str, Any]
    reason: str
    remotes: Remotes = field(default_factory=Remotes)


Failure = Callable[[Path, pytest.MonkeyPatch], AbstractAsyncContextManager[Failing]]


def asking(url: str, reason: str, *, failures: int = 1_000, timeout: float = TIMEOUT) -> Failing:
    """A remote shield."""
    options = {"url": url, **({"detector_id": "d"} if url.startswith("http") else {"type": "deny_list"})}
    entry = {"type": "remote", "action": "block", "timeout": timeout, "options": options}
    return Failing(entry, reason, Remotes([url], failures=failures, pause=NEVER))


def explode(*_: object, **__: object) -> None:
    raise RuntimeError(SECRET)


@asynccontextmanager
async def exception_in_a_quick_shield(_: Path, patch: pytest.MonkeyPatch) -> AsyncGenerator[Failing]:
    patch.setattr(MatchLane, "feed", explode)
    yield Failing(deny("bluebird"), "SHIELD_FAILED")


@asynccontextmanager
async def exception_in_a_thread(_: Path, patch: pytest.MonkeyPatch) -> AsyncGenerator[Failing]:
    patch.setattr(LanguageCheck, "__call__", explode)
    yield Failing({"type": "language", "action": "block", "options": {"allow": ["en"]}}, "SHIELD_FAILED")


@asynccontextmanager
async def exception_in_a_service(directory: Path, _: pytest.MonkeyPatch) -> AsyncGenerator[Failing]:
    async def talk(requests: AsyncIterator[shield_pb2.InspectStreamRequest]) -> AsyncGenerator[Answer]:
        await anext(requests)
        yield Answer(opened=shield_pb2.InspectOpened())
        explode()

    async with service(directory, TalkingShields(talk)) as url:
        yield asking(url, "SHIELD_FAILED")


@asynccontextmanager
async def exception_in_a_detector(_: Path, __: pytest.MonkeyPatch) -> AsyncGenerator[Failing]:
    async def handle(_: Request) -> Response:
        return Response(SECRET, 500)

    async with detector(handle) as url:
        yield asking(url, "SHIELD_FAILED")


@asynccontextmanager
async def timeout_of_a_service(directory: Path, _: pytest.MonkeyPatch) -> AsyncGenerator[Failing]:
    async def talk(requests: AsyncIterator[shield_pb2.InspectStreamRequest]) -> AsyncGenerator[Answer]:
        yield Answer(opened=shield_pb2.InspectOpened())
        async for _ in requests:
            pass
        await asyncio.Event().wait()

    async with service(directory, TalkingShields(talk)) as url:
        yield asking(url, "SHIELD_TIMEOUT", timeout=SHORT)


@asynccontextmanager
async def timeout_of_a_detector(_: Path, __: pytest.MonkeyPatch) -> AsyncGenerator[Failing]:
    async def handle(request: Request) -> Response:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        return JSONResponse([[]])

    async with detector(handle) as url:
        yield asking(url, "SHIELD_TIMEOUT", timeout=SHORT)


@asynccontextmanager
async def unreachable_service(directory: Path, _: pytest.MonkeyPatch) -> AsyncGenerator[Failing]:
    yield asking(f"unix:{directory}/nobody.sock", "SHIELD_UNAVAILABLE")


@asynccontextmanager
async def unreachable_detector(_: Path, __: pytest.MonkeyPatch) -> AsyncGenerator[Failing]:
    yield asking("http://127.0.0.1:1", "SHIELD_UNAVAILABLE")


@asynccontextmanager
async def malformed_answer(_: Path, __: pytest.MonkeyPatch) -> AsyncGenerator[Failing]:
    async def handle(_: Request) -> Response:
        return JSONResponse([[{"start": 0, "end": 1_000, "detection": "a", "detection_type": "b", "score": 1}]])

    async with detector(handle) as url:
        yield asking(url, "SHIELD_BROKEN")


@asynccontextmanager
async def open_breaker(_: Path, __: pytest.MonkeyPatch) -> AsyncGenerator[Failing]:
    """The server has recovered; it must not even be asked."""
    asked: list[str] = []

    async def handle(_: Request) -> Response:
        asked.append("")
        return JSONResponse([[]])

    async with detector(handle) as url:
        failing = asking(url, "SHIELD_UNAVAILABLE", failures=1)
        with pytest.raises(TimeoutError), failing.remotes.breaker(url).attempt():
            raise TimeoutError
        yield failing
    assert not asked


FAILURES: Final[list[Failure]] = [
    exception_in_a_quick_shield,
    exception_in_a_thread,
    exception_in_a_service,
    exception_in_a_detector,
    timeout_of_a_service,
    timeout_of_a_detector,
    unreachable_service,
    unreachable_detector,
    malformed_answer,
    open_breaker,
]


@asynccontextmanager
async def meshed(directory: Path, failing: Failing, **options: Any) -> AsyncGenerator[Mesh]:
    """A mesh with four profiles: the shield on the way in or out, closed or open."""

    def opener(server: Any) -> AbstractAsyncContextManager[Any]:
        return open_service(
            server, default_timeout=TIMEOUT, max_characters=1_000_000, kept_shields=64, remotes=failing.remotes
        )

    shields: dict[str, OpenService] = {"shield": opener}
    profiles = {
        f"{way}_{on_error}": {way: {"shields": [{**failing.shield, "on_error": on_error}]}, **options}
        for way in ("input", "output")
        for on_error in ("closed", "open")
    }
    models = {"models": [*REPLAY["models"], {"name": "long", "backend": "replay", "options": LONG}]}
    async with running(directory, profiles=profiles, models=models, replaced=shields) as mesh:
        yield mesh


WORDS: Final = [" word"] * 300
LONG: Final = {"pieces": WORDS, "pace": 200}


def told(result: shieldmesh.Result) -> list[tuple[str, Action, str]]:
    return [(str(each.direction), each.action, each.error) for each in result.verdicts]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.__name__)
async def test_a_shield_that_fails_counts_as_its_policy_says(
    tmp_path: Path, failure: Failure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed, nothing leaves and the turn ends with CONTENT_FILTER; open, all does. No log says what the error said."""
    with observed() as seen:
        async with failure(tmp_path, monkeypatch) as failing, meshed(tmp_path, failing) as mesh:
            for way in ("input", "output"):
                closed = await mesh.client.chat("an owl", profile=f"{way}_closed", timeout=TIMEOUT).result()
                assert (closed.text, closed.finished.reason) == ("", FinishReason.CONTENT_FILTER)
                assert told(closed) == [(way, Action.BLOCK, failing.reason)]
                passed = await mesh.client.chat("an owl", profile=f"{way}_open", timeout=TIMEOUT).result()
                assert (passed.text, passed.finished.reason) == ("an owl", FinishReason.STOP)
                assert told(passed) == [(way, Action.FLAG, failing.reason)]
            await mesh.idle()
            await eventually(lambda: not seen.spans.open)
    assert SECRET not in seen.stream.getvalue()


@asynccontextmanager
async def shield_process(target: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    """A shield service in a process of its own, ready to serve."""
    environment = {**os.environ, "SHIELDMESH_SHIELD_LISTEN": target}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.shield", env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(60):
            await channels.get(target).channel_ready()
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("on_error", ["closed", "open"])
async def test_a_process_that_is_killed_in_mid_stream(tmp_path: Path, on_error: str) -> None:
    """SIGKILL while text flows: closed, nothing leaves after it and the turn is blocked; open, the rest leaves."""
    target = f"unix:{tmp_path}/remote.sock"
    failing = asking(target, "SHIELD_UNAVAILABLE")
    failing.shield["options"]["options"] = {"terms": ["bluebird"]}
    async with meshed(tmp_path, failing, model="long") as mesh, shield_process(target) as process:
        text, verdicts, finished = "", list[Verdict](), list[Finished]()
        async with mesh.client.chat("an owl", profile=f"output_{on_error}", timeout=TIMEOUT) as turn:
            async for event in turn:
                match event:
                    case Delta():
                        text += event.text
                        if process.returncode is None:
                            process.kill()
                            await process.wait()
                    case Verdict():
                        verdicts.append(event)
                    case Finished():
                        finished.append(event)
                    case _:
                        pass
        await mesh.idle()
    whole = "".join(WORDS)
    assert text
    assert whole.startswith(text)
    assert [verdict.error for verdict in verdicts] == ["SHIELD_UNAVAILABLE"]
    (end,) = finished
    if on_error == "closed":
        assert text != whole
        assert (end.reason, verdicts[0].action) == (FinishReason.CONTENT_FILTER, Action.BLOCK)
    else:
        assert text == whole
        assert (end.reason, verdicts[0].action) == (FinishReason.STOP, Action.FLAG)
