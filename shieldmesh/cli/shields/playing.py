"""A text played through a set of shields, delta by delta, and what came of it."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import grpc

from shieldmesh import calls
from shieldmesh.cli.shields.service import Stub
from shieldmesh.cli.shields.transcript import Delta
from shieldmesh.errors import InternalError
from shieldmesh.v1 import policy_pb2, shield_pb2

_PREPARATION: Final = 60.0
"""Seconds that building shields may take: some load models."""


class Seen(NamedTuple):
    """What a shield saw, or what made it fail (`kind` is the reason then, and `failed` true)."""

    shield: str
    kind: str
    start: int
    end: int
    score: float
    action: str
    failed: bool = False


@dataclass
class Played:
    """What came of a text.

    Attributes:
        text: What left, with its edits.
        watermark: How much of the original that was.
        seen: What the shields said.
        blocked: Whether a shield ended the text.
        held: Characters that waited once the shields had seen a delta, for each that they saw.
        waits: Seconds from a delta's sending to its release, for each that was released.
    """

    text: str = ""
    watermark: int = 0
    seen: list[Seen] = field(default_factory=list[Seen])
    blocked: bool = False
    held: list[int] = field(default_factory=list[int])
    waits: list[float] = field(default_factory=list[float])


async def prepare(stub: "Stub", opening: shield_pb2.InspectOpen) -> None:
    """Has the service build the shields, so that no text waits for that.

    Raises:
        MeshError: the service failed, or cannot build them.
    """
    async with calls.bidi(stub.InspectStream, timeout=_PREPARATION) as call:
        with suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
            await call.write(shield_pb2.InspectStreamRequest(open=opening))
            await call.done_writing()
        async for _ in call:
            pass


async def play(
    stub: "Stub", opening: shield_pb2.InspectOpen, deltas: Sequence[Delta], *, seconds: float, recorded: bool = False
) -> Played:
    """Sends the deltas as one text and takes down what comes back.

    Args:
        stub: The shield service.
        opening: The shields.
        deltas: The text.
        seconds: What may be spent on all of it.
        recorded: Each delta is sent at its time; otherwise as soon as the shields have seen the one before.

    Raises:
        MeshError: the service failed.
    """
    run = _Run(deltas)
    async with calls.bidi(stub.InspectStream, timeout=seconds) as call:
        sender = asyncio.create_task(run.send(call, opening, recorded=recorded))
        try:
            async for answer in call:
                if answer.WhichOneof("response") == "clearance":
                    run.take(answer.clearance)
                if run.played.blocked:
                    break  # nothing follows; how the call ends is no news, as text may still be on its way there
        finally:
            sender.cancel()  # behind a block nothing more is answered
            await asyncio.wait([sender])
        if not sender.cancelled():
            sender.result()
    run.check()
    return run.played


class _Run:
    """One text on its way."""

    def __init__(self, deltas: Sequence[Delta]) -> None:
        self.played = Played()
        self._deltas = deltas
        self._original = "".join(delta.text for delta in deltas)
        self._ends: list[int] = []
        self._sent: list[float] = []
        self._answered = asyncio.Event()
        self._clock = asyncio.get_running_loop().time

    async def send(
        self,
        call: "grpc.aio.StreamStreamCall[shield_pb2.InspectStreamRequest, shield_pb2.InspectStreamResponse]",
        opening: shield_pb2.InspectOpen,
        *,
        recorded: bool,
    ) -> None:
        """Sends everything, each delta when it is due."""
        # A call that has ended takes nothing more. Why it ended is heard where it is read: a verdict may wait there.
        with suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
            await call.write(shield_pb2.InspectStreamRequest(open=opening))
            begun, offset = self._clock(), 0
            for delta in self._deltas:
                if recorded:
                    await asyncio.sleep(max(0.0, begun + delta.at - self._clock()))
                self._ends.append(offset + len(delta.text))
                self._sent.append(self._clock())
                text = shield_pb2.InspectText(offset=offset, text=delta.text)
                await call.write(shield_pb2.InspectStreamRequest(text=text))
                offset += len(delta.text)
                while not recorded and len(self.played.held) < len(self._ends):
                    self._answered.clear()
                    await self._answered.wait()
            await call.write(shield_pb2.InspectStreamRequest(text=shield_pb2.InspectText(offset=offset, end=True)))
            await call.done_writing()

    def take(self, clearance: shield_pb2.Clearance) -> None:
        """Applies a clearance."""
        played, now = self.played, self._clock()
        if not played.watermark <= clearance.watermark <= clearance.seen:
            raise InternalError("the shield service sent a watermark that cannot be", reason="SHIELD_BROKEN")
        at = played.watermark
        for edit in clearance.edits:
            played.text += self._original[at : edit.start] + edit.replacement
            at = edit.end
        played.text += self._original[at : clearance.watermark]
        played.watermark = clearance.watermark
        while len(played.held) < len(self._ends) and self._ends[len(played.held)] <= clearance.seen:
            played.held.append(clearance.seen - clearance.watermark)
        while len(played.waits) < len(self._ends) and self._ends[len(played.waits)] <= clearance.watermark:
            played.waits.append(now - self._sent[len(played.waits)])
        for verdict in clearance.verdicts:
            played.seen += seen_in(verdict)
            played.blocked = played.blocked or verdict.action == policy_pb2.ACTION_BLOCK
        self._answered.set()

    def check(self) -> None:
        """Sees that the text was dealt with to its end.

        Raises:
            InternalError: it was not.
        """
        if not self.played.blocked and self.played.watermark < len(self._original):
            raise InternalError("the shield service ended before it had cleared all text", reason="SHIELD_BROKEN")


def seen_in(verdict: policy_pb2.Verdict) -> list[Seen]:
    """What a verdict says."""
    action = policy_pb2.Action.Name(verdict.action).removeprefix("ACTION_").lower()
    if verdict.error:
        return [Seen(verdict.shield, verdict.error, 0, 0, 0.0, action, failed=True)]
    return [Seen(verdict.shield, found.kind, found.start, found.end, found.score, action) for found in verdict.findings]
