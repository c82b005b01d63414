"""A candidate policy beside the one that acts: it sees the same texts, and how it would have answered is counted.

It can do nothing to the turn: no step of the turn waits for it, what it says goes to nobody, and what goes wrong with
it is counted. It is given up when it falls a window of text behind the model, or takes much longer than the turn, and
does not begin where too many run already.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import grpc

from shieldmesh import calls, context, telemetry
from shieldmesh import profile as profiles
from shieldmesh.errors import MeshError
from shieldmesh.profile import Profile
from shieldmesh.profile.policy import OutputPolicy, ShieldSet
from shieldmesh.telemetry import Name, SpanName
from shieldmesh.v1 import policy_pb2, shield_pb2

from .differences import compare
from .mailbox import Mailbox
from .merging import TEXTS
from .shadow_report import tell

if TYPE_CHECKING:
    from shieldmesh.v1.shield_pb2_grpc import ShieldServiceAsyncStub

Call: TypeAlias = "grpc.aio.StreamStreamCall[shield_pb2.InspectStreamRequest, shield_pb2.InspectStreamResponse]"

PATIENCE: Final = 10.0
"""Seconds after the end of its turn in which a candidate may say what it has not said yet."""
MOST: Final = 64
"""Candidates that run in a process at the same time."""
MOST_VERDICTS: Final = 1_000
"""Verdicts of either policy on a turn; with more, they are not compared."""


class Shadows:
    """The candidates that run in this process."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None] | None:
        """A task of its own, which may outlive its turn by `PATIENCE`; None where too many run."""
        if len(self._tasks) >= self._most:
            return None
        task = asyncio.create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class Shadow:
    """What a turn knows of its candidate. Nothing here waits or raises."""

    def __init__(
        self,
        live: Profile,
        candidate: Profile,
        shields: "ShieldServiceAsyncStub",
        *,
        shadows: Shadows,
        window: int,
    ) -> None:
        """`window` is how many bytes of text the candidate may be behind."""
        self._live = live
        self._candidate = candidate
        self._shields = shields
        self._shadows = shadows
        self._window = window
        self._task: asyncio.Task[None] | None = None
        self._given_up = False
        self._over = asyncio.Event()
        self._asked: asyncio.Future[Sequence[str]] = asyncio.get_running_loop().create_future()
        self._texts = Mailbox(TEXTS, window)
        self._hears = True
        """Whether the candidate wants more of what the model writes."""
        self._shown: dict[int, int] = {}
        """How much of each lane is the candidate's to see."""
        self._seen: dict[int, int] = {}
        """How much of that it says to have seen."""
        self._ended: set[int] = set()
        self._said: list[policy_pb2.Verdict] = []
        self._answered: list[policy_pb2.Verdict] = []

    @contextmanager
    def beside(self) -> Generator[None]:
        """Around the turn's work: the candidate begins, and is compared when the work is done.

        A turn that fails or is cancelled is compared with nothing.
        """
        self._task = self._shadows.start(self._run)
        if self._task is None:
            tell(self._live, self._candidate, "abandoned")
        try:
            yield
        except BaseException:
            if self._task is not None:
                self._task.cancel()
            raise
        if self._runs():
            self._end()

    def ask(self, texts: Callable[[], Sequence[str]]) -> None:
        """Takes what the input shields are to see."""
        if self._runs() and not self._asked.done():
            self._asked.set_result(texts())

    def see(self, text: shield_pb2.InspectText) -> None:
        """Takes a piece of what the model wrote."""
        if not (self._runs() and self._hears):
            return
        if sum(self._shown.values()) - sum(self._seen.values()) > self._window:
            self._give_up()
            return
        ours = shield_pb2.InspectText()
        ours.CopyFrom(text)  # the turn may add to its own
        self._texts.put(ours)
        self._shown[text.lane] = text.offset + len(text.text)
        if text.end:
            self._ended.add(text.lane)

    def note(self, verdict: policy_pb2.Verdict) -> None:
        """Takes what the policy that acts says."""
        self._add(self._said, [verdict])

    def _runs(self) -> bool:
        return self._task is not None and not self._task.done() and not self._task.cancelling()

    def _end(self) -> None:
        for lane in self._shown.keys() - self._ended:
            self._texts.put(shield_pb2.InspectText(lane=lane, offset=self._shown[lane], end=True))
        self._texts.close()
        self._over.set()
        if self._task is not None:
            alarm = self._task.get_loop().call_later(PATIENCE, self._give_up)
            self._task.add_done_callback(lambda _: alarm.cancel())

    def _give_up(self) -> None:
        if self._task is not None and self._runs():
            self._given_up = True
            self._task.cancel()

    def _add(self, to: list[policy_pb2.Verdict], verdicts: Iterable[policy_pb2.Verdict]) -> None:
        if self._runs():
            to += verdicts
            if len(to) > MOST_VERDICTS:
                self._give_up()

    # The candidate, in a task of its own

    async def _run(self) -> None:
        candidate, ours = self._candidate, context.current()
        values = MappingProxyType({**ours.values, context.SHADOW: self._live.name})
        theirs = replace(ours, profile=candidate.name, profile_version=candidate.version, values=values)
        marks = {Name.CANDIDATE: candidate.name, Name.CANDIDATE_VERSION: candidate.version}
        # Whatever is wrong with it is no business of the turn.
        with suppress(Exception), context.use(theirs), telemetry.span(SpanName.SHADOW, marks) as span:
            try:
                await self._inspect(candidate)
                await self._over.wait()
                tell(self._live, candidate, "compared", found=compare(self._said, self._answered), span=span)
            except asyncio.CancelledError:
                if self._given_up:
                    tell(self._live, candidate, "abandoned", span=span)
                raise
            except Exception as error:
                reason = error.reason if isinstance(error, MeshError) else type(error).__name__
                tell(self._live, candidate, "failed", error=reason, span=span)
                raise

    async def _inspect(self, candidate: Profile) -> None:
        ways = [
            asyncio.create_task(self._input(candidate.policy.input.shields)),
            asyncio.create_task(self._output(candidate)),
        ]
        try:
            await asyncio.gather(*ways)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)

    async def _input(self, shields: ShieldSet) -> None:
        texts = await self._asked
        if shields:
            request = shield_pb2.InspectRequest(
                shields=map(profiles.shield_spec, shields), direction=policy_pb2.DIRECTION_INPUT, texts=texts
            )
            self._add(self._answered, (await calls.unary(self._shields.Inspect, request)).verdicts)

    async def _output(self, candidate: Profile) -> None:
        policy = candidate.policy.output
        if policy.shields:
            await self._listen(policy)
        self._hears = False

    async def _listen(self, policy: OutputPolicy) -> None:
        opening = shield_pb2.InspectOpen(
            shields=map(profiles.shield_spec, policy.shields),
            direction=policy_pb2.DIRECTION_OUTPUT,
            latency_budget=profiles.latency_budget(policy.latency_budget),
        )
        async with calls.bidi(self._shields.InspectStream) as call:
            showing = asyncio.create_task(self._show(call, opening))
            try:
                async for answer in call:
                    lane = answer.clearance.lane
                    self._seen[lane] = min(answer.clearance.seen, self._shown.get(lane, 0))
                    self._add(self._answered, answer.clearance.verdicts)
                    if any(verdict.action == policy_pb2.ACTION_BLOCK for verdict in answer.clearance.verdicts):
                        return  # nothing follows; how the call ends is no news, as text may still be on its way there
            finally:
                showing.cancel()
                await asyncio.wait([showing])

    async def _show(self, call: "Call", opening: shield_pb2.InspectOpen) -> None:
        # A call that has ended takes nothing more; why it ended is heard where it is read.
        with suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
            await call.write(shield_pb2.InspectStreamRequest(open=opening))
            async for text in self._texts:
                await call.write(shield_pb2.InspectStreamRequest(text=text))
            await call.done_writing()
