"""A detector over HTTP: the API that the FMS Guardrails Orchestrator calls its detectors by.

`POST /api/v1/text/contents` with the header `detector-id`; the body holds `contents` and `detector_params`, the answer
is a list of detections for each content, with spans in code points of that content.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Final, Protocol, TypeAlias
from urllib.parse import urlsplit

import httpx
import structlog
from pydantic import JsonValue

from services.shield.shield import Finding, Progress, Rules, ShieldError, SlowLane, SlowShield
from services.shield.window.windows import Part, Windows
from shieldmesh import http
from shieldmesh.profile.options import KindFrom, RemoteOptions, Window

from .breaker import UNAVAILABLE, TroubleError
from .detections import read
from .findings import BROKEN
from .remotes import Remotes

PATH: Final = "/api/v1/text/contents"
MAX_CHARACTERS: Final = 2_000_000
"""Code points of a whole text; a longer one is a failure of the shield, about which its policy decides."""
MAX_ANSWER: Final = 16 * 2**20
"""Bytes of an answer."""
_TROUBLE: Final = frozenset({429, 502, 503, 504})
"""Statuses of a server that is too busy, or of one in front of it that does not reach it."""

_log = structlog.stdlib.get_logger("shieldmesh.shield")


class DetectorShield(SlowShield):
    """Asks a detector."""

    def __init__(self, rules: Rules, options: RemoteOptions, remotes: Remotes) -> None:
        super().__init__(replace(rules, kind="whole") if options.sees_all else rules)
        self._sees_all = options.sees_all
        self._breaker = partial(remotes.breaker, options.url)
        self._detector = _Detector(options, remotes.authorization(options.url))

    def lane(self) -> AbstractAsyncContextManager[SlowLane]:
        """A text that the detector is asked about."""
        return self._lane()

    @asynccontextmanager
    async def _lane(self) -> AsyncGenerator[SlowLane]:
        cut = _Whole() if self._sees_all else Windows(Window())
        # The attempt begins with the first question, which may come long after the first text.
        with ExitStack() as attempt:
            yield _DetectorLane(self._detector, cut, lambda: attempt.enter_context(self._breaker().attempt()))


class Cut(Protocol):
    """How a text is cut into what the detector sees; see `services.shield.window.windows`."""

    @property
    def cleared(self) -> int:
        """Text before this is in no part to come."""
        ...

    def feed(self, text: str, *, end: bool) -> Sequence[Part]:
        """Takes the next piece of the text; the parts that are complete now."""
        ...


class _Whole:
    """The whole text as one part, at its end."""

    def __init__(self) -> None:
        self.cleared = 0
        self._pieces: list[str] = []
        self._seen = 0

    def feed(self, text: str, *, end: bool) -> Sequence[Part]:
        self._seen += len(text)
        if self._seen > MAX_CHARACTERS:
            self._pieces.clear()
            raise ShieldError("TEXT_TOO_LONG")
        self._pieces.append(text)
        if not end:
            return ()
        self.cleared = self._seen
        return [Part("".join(self._pieces), 0)]


class _DetectorLane:
    """One text."""

    def __init__(self, detector: "_Detector", cut: Cut, begin: Callable[[], Callable[[], None]]) -> None:
        """`begin` is called before the first question, and what it gives after every answer."""
        self._detector = detector
        self._cut = cut
        self._begin = begin
        self._answered: Callable[[], None] | None = None
        self._told: set[Place] = set()
        """What was found where a part to come will show it again."""

    async def feed(self, text: str, *, end: bool) -> Progress:
        """Asks about the parts of the text that are complete now."""
        parts = [part for part in self._cut.feed(text, end=end) if not part.text.isspace()]
        findings = await self._ask(parts) if parts else ()
        fresh = {_place(each): each for each in reversed(findings) if _place(each) not in self._told}
        cleared = self._cut.cleared
        self._told = {place for place in (*self._told, *fresh) if place[1] >= cleared}
        return Progress(tuple(reversed(fresh.values())), cleared, cleared)

    async def _ask(self, parts: Sequence[Part]) -> Sequence[Finding]:
        if self._answered is None:
            self._answered = self._begin()
        findings = await self._detector.ask(parts)
        self._answered()
        return findings


Place: TypeAlias = tuple[str, int, int]


def _place(finding: Finding) -> Place:
    return finding.kind, finding.start, finding.end


class _Detector:
    """The detector as its server's callers see it."""

    def __init__(self, options: RemoteOptions, authorization: str) -> None:
        split = urlsplit(options.url)
        self._base = f"{split.scheme}://{split.netloc}"
        self._path = f"{split.path}{PATH}"
        self._url = options.url
        self._authorization = authorization
        self._headers = {"detector-id": options.detector_id}
        self._params = _whole_numbers(options.detector_params)
        self._kind_from: KindFrom = options.kind_from

    async def ask(self, parts: Sequence[Part]) -> Sequence[Finding]:
        """What it finds in the parts, in code points of their text.

        Raises:
            TroubleError: it cannot be reached, or has no room.
            ShieldError: it refuses, fails, or answers what is no answer.
        """
        body = {"contents": [part.text for part in parts], "detector_params": self._params}
        try:
            answer = await self._post(body)
        except (httpx.TransportError, httpx.DecodingError) as error:
            self._log(error=type(error).__name__)
            raise TroubleError(UNAVAILABLE) from None
        return read(answer, parts, self._kind_from)

    async def _post(self, body: dict[str, JsonValue | list[str]]) -> bytes:
        client = http.get(self._base, authorization=self._authorization)
        # No timeout of its own: the shield's holds, around all of this.
        async with client.stream("POST", self._path, json=body, headers=self._headers, timeout=None) as response:
            if response.status_code != 200:
                self._log(status=response.status_code)
                raise _failure(response.status_code)
            answer = bytearray()
            async for piece in response.aiter_bytes():
                answer += piece
                if len(answer) > MAX_ANSWER:
                    self._log(error="the answer is too large")
                    raise ShieldError(BROKEN)
        return bytes(answer)

    def _log(self, **what: str | int) -> None:
        _log.warning("remote shield failed", remote=self._url, **what)


def _failure(status: int) -> ShieldError:
    if status in _TROUBLE:
        return TroubleError(UNAVAILABLE)
    if 400 <= status < 500:
        return ShieldError("SHIELD_REFUSED")
    return ShieldError("SHIELD_FAILED" if status >= 500 else BROKEN)


def _whole_numbers(value: JsonValue) -> JsonValue:
    """The same with 5 for 5.0: a specification knows one kind of number, a detector may ask for integers."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case list():
            return [_whole_numbers(each) for each in value]
        case dict():
            return {name: _whole_numbers(each) for name, each in value.items()}
        case _:
            return value
