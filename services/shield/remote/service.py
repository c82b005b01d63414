"""A shield of another ShieldService: its lanes are streams of that service.

The service is asked to redact, whatever our policy does: so it tells all findings, holds text that may become one, and
never ends the stream with a block. Its edits are left aside: what is done about the findings is decided here.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final, TypeAlias

import grpc
import structlog

from services.shield.shield import Finding, Progress, Rules, ShieldError, SlowLane, SlowShield
from shieldmesh import calls, channels, context, errors, publishing
from shieldmesh.errors import MeshError
from shieldmesh.profile import struct
from shieldmesh.profile.options import RemoteOptions
from shieldmesh.v1 import policy_pb2, shield_pb2, shield_pb2_grpc

from .breaker import UNAVAILABLE, TroubleError
from .depth import deeper
from .findings import BROKEN, finding
from .remotes import Remotes

if TYPE_CHECKING:
    Call: TypeAlias = grpc.aio.StreamStreamCall[shield_pb2.InspectStreamRequest, shield_pb2.InspectStreamResponse]

_REASON: Final = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_TROUBLE: Final = (errors.UnavailableError, errors.ResourceExhaustedError, errors.CancelledCallError)
_REFUSALS: Final = (
    errors.InvalidArgumentError,
    errors.NotFoundError,
    errors.FailedPreconditionError,
    errors.UnauthenticatedError,
    errors.PermissionDeniedError,
    errors.UnimplementedError,
)

_log = structlog.stdlib.get_logger("shieldmesh.shield")


class ServiceShield(SlowShield):
    """Asks a shield of another ShieldService."""

    def __init__(self, rules: Rules, options: RemoteOptions, remotes: Remotes) -> None:
        super().__init__(rules)
        self._url = options.url
        self._remotes = remotes
        asked = policy_pb2.ShieldSpec(
            name=rules.name,
            type=options.type,
            action=policy_pb2.ACTION_REDACT,
            timeout=errors.duration(rules.timeout),
            options=struct(options.options),
        )
        # The service looks at one text whichever way that goes: its directions differ in what is told about them.
        opening = shield_pb2.InspectOpen(shields=[asked], direction=policy_pb2.DIRECTION_OUTPUT)
        self._opening = shield_pb2.InspectStreamRequest(open=opening)

    def lane(self) -> AbstractAsyncContextManager[SlowLane]:
        """A stream of the service."""
        return self._lane()

    @asynccontextmanager
    async def _lane(self) -> AsyncGenerator[SlowLane]:
        stub = shield_pb2_grpc.ShieldServiceStub(channels.get(_target(self._url), self._remotes.credentials(self._url)))
        async with AsyncExitStack() as stack:
            answered = stack.enter_context(self._remotes.breaker(self._url).attempt())
            stack.push(self._translate)
            with context.use(deeper()):
                call = await stack.enter_async_context(calls.bidi(stub.InspectStream))
            lane = _ServiceLane(call, self._opening, answered)
            stack.push_async_callback(lane.leave)
            yield lane

    def _translate(self, _kind: object, error: BaseException | None, _place: object) -> None:
        """What a failed call means for the shield."""
        if not isinstance(error, MeshError):
            return
        _log.warning("remote shield failed", remote=self._url, status=error.code.name, reason=error.reason)
        if isinstance(error, errors.DeadlineExceededError):
            raise ShieldError("SHIELD_TIMEOUT") from None  # the turn's, which says nothing about the remote
        if isinstance(error, _TROUBLE):
            raise TroubleError(UNAVAILABLE) from None
        raise ShieldError("SHIELD_REFUSED" if isinstance(error, _REFUSALS) else "SHIELD_FAILED") from None


class _ServiceLane:
    """A text that goes to the service as it comes, and what comes back."""

    def __init__(self, call: "Call", opening: shield_pb2.InspectStreamRequest, answered: Callable[[], None]) -> None:
        self._call = call
        self._opening: shield_pb2.InspectStreamRequest | None = opening
        self._answered = answered
        self._sent = 0
        self._seen = 0
        self._watermark = 0
        self._findings: list[Finding] = []
        self._tell: Callable[[Progress], None] | None = None
        self._feeding = False
        self._news = asyncio.Event()
        self._reading = asyncio.create_task(self._read())
        self._reading.add_done_callback(lambda _: self._news.set())

    def listen(self, heard: Callable[[Progress], None]) -> None:
        """See `services.shield.shield.ListenedLane`."""
        self._tell = heard

    async def feed(self, text: str, *, end: bool) -> Progress:
        """Sends the next piece; what is known when the service has seen it."""
        self._feeding = True
        try:
            await self._send(text, end=end)
            while not self._caught_up(end=end):
                self._news.clear()
                await self._news.wait()
        finally:
            self._feeding = False
        return self._progress()

    async def leave(self) -> None:
        """Reads no further."""
        self._reading.cancel()
        await asyncio.wait([self._reading])
        if not self._reading.cancelled():
            self._reading.exception()  # seen, so nothing complains that it was not

    async def _send(self, text: str, *, end: bool) -> None:
        piece = shield_pb2.InspectText(lane=0, offset=self._sent, text=text, end=end)
        self._sent += len(text)
        opening, self._opening = self._opening, None
        try:
            if opening is not None:
                await self._call.write(opening)
            await self._call.write(shield_pb2.InspectStreamRequest(text=piece))
            if end:
                await self._call.done_writing()
        except asyncio.InvalidStateError:
            # The call has ended: why, is known to who reads it.
            await asyncio.wait([self._reading])
            self._caught_up(end=False)

    def _caught_up(self, *, end: bool) -> bool:
        """Whether the service has seen all that was sent; at the end, whether it has said its last word."""
        if not self._reading.done():
            return not end and self._seen >= self._sent
        if self._reading.cancelled():
            raise TroubleError(UNAVAILABLE)  # so grpc.aio tells of a call that the other side cancelled
        self._reading.result()
        if not end or self._watermark != self._sent:
            raise ShieldError(BROKEN)  # it ended without clearing the text
        return True

    async def _read(self) -> None:
        answer = await self._call.read()
        if not isinstance(answer, shield_pb2.InspectStreamResponse) or not answer.HasField("opened"):
            raise ShieldError(BROKEN)
        while isinstance(answer := await self._call.read(), shield_pb2.InspectStreamResponse):
            if answer.HasField("progress"):
                publishing.forward(answer.progress)
                continue
            self._take(answer.clearance)
            self._answered()
            if self._feeding:
                self._news.set()
            elif self._tell is not None:
                self._tell(self._progress())

    def _take(self, clearance: shield_pb2.Clearance) -> None:
        if not self._watermark <= clearance.watermark <= clearance.seen <= self._sent or clearance.lane:
            raise ShieldError(BROKEN)
        for verdict in clearance.verdicts:
            if verdict.error:
                raise ShieldError(verdict.error if _REASON.fullmatch(verdict.error) else "SHIELD_FAILED")
            for each in verdict.findings:
                # What was cleared may have left: nothing is found there any more. Only an empty text has empty spans.
                if each.start < self._watermark or each.end > clearance.seen or (each.start == each.end and self._sent):
                    raise ShieldError(BROKEN)
                self._findings.append(finding(each.kind, each.start, each.end, each.score))
        self._watermark, self._seen = clearance.watermark, clearance.seen

    def _progress(self) -> Progress:
        findings, self._findings = tuple(self._findings), []
        return Progress(findings, self._watermark, self._watermark)


def _target(url: str) -> str:
    """A URL in gRPC's notation."""
    return url if url.startswith("unix:") else url.partition("://")[2]
