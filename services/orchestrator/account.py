"""The account of a turn: where its time went, what it cost, what the shields did."""

import time
from collections import Counter
from typing import Final

from shieldmesh.errors import duration
from shieldmesh.profile import Profile
from shieldmesh.v1 import chat_pb2, generation_pb2, inference_pb2, policy_pb2

from .lanes import Lanes

CONTENT_FILTER: Final = generation_pb2.FINISH_REASON_CONTENT_FILTER
LATENCY_BUDGET: Final = "LATENCY_BUDGET"
"""The error of a verdict about a shield that took longer than the turn may wait; see shield.proto."""


class Account:
    """Notes what happens and, at the end, sums it up.

    Attributes:
        verdicts: How often each shield did what: (shield, action) → count.
        reason: Why the turn ended, as far as it has.
        model: The model that answers, or that was asked last.
        summary: What the client is told when the turn has come to a good end.
    """

    def __init__(self, profile: Profile) -> None:
        self.verdicts: Counter[tuple[str, policy_pb2.Action.ValueType]] = Counter()
        self.model = profile.policy.model
        self.summary: chat_pb2.TurnFinished | None = None
        self._policy = profile.policy
        self._begun = time.monotonic()
        # In plain numbers: some of these are looked at with every delta.
        self._times: dict[str, float] = {}
        self._first_token: float | None = None
        self._completion_tokens = 0
        self._engine = generation_pb2.Usage()
        self.reason = generation_pb2.FINISH_REASON_UNSPECIFIED
        self._failed: set[tuple[policy_pb2.Direction.ValueType, str]] = set()
        # In the mode hold nothing leaves unseen.
        self._all_seen = self._policy.output.mode == "hold"

    def input_cleared(self) -> None:
        """All input shields have spoken."""
        self._times["input_cleared"] = self._elapsed()

    def admitted(self, queued: float) -> None:
        """The engine has the request, which waited for its place for so many seconds."""
        self._times["admitted"] = self._elapsed()
        self._times["queued"] = queued

    def generated(self, tokens: int) -> None:
        """The engine sent tokens."""
        if self._first_token is None:
            self._first_token = self._times["first_token"] = self._elapsed()
        self._completion_tokens += tokens

    def released(self) -> None:
        """Text left for the client."""
        if "first_release" not in self._times:
            self._times["first_release"] = self._elapsed()

    def judged(self, verdict: policy_pb2.Verdict) -> None:
        """A shield saw something."""
        self.verdicts[verdict.shield, verdict.action] += 1
        if verdict.error and not self._waits_on(verdict):
            self._failed.add((verdict.direction, verdict.shield))

    def all_seen(self) -> None:
        """The shields have seen all text that left, though it did not wait for them."""
        self._all_seen = True

    def engine_finished(self, finished: inference_pb2.GenerateFinished) -> None:
        """An engine is done; its own count replaces the running one. What several cost is added up."""
        self.reason = finished.reason
        self._engine = _sum(self._engine, finished.usage)
        self._completion_tokens = 0

    def blocked(self) -> None:
        """A shield ended the turn."""
        self.reason = CONTENT_FILTER

    def stopped(self) -> None:
        """Somebody other than the reader ended the turn."""
        self.reason = generation_pb2.FINISH_REASON_CANCELLED

    def finished(self, lanes: Lanes) -> chat_pb2.TurnFinished:
        """The sum so far, whether the turn has come to a good end or not."""
        times = {phase: duration(seconds) for phase, seconds in self._times.items()}
        return chat_pb2.TurnFinished(
            reason=self.reason,
            usage=self._usage(),
            receipt=self._receipt(lanes),
            timings=chat_pb2.Timings(**times, total=duration(self._elapsed())),
        )

    def _usage(self) -> generation_pb2.Usage:
        """The engines' account; of the one from which it never came, the tokens that were seen."""
        seen = self._completion_tokens
        return _sum(self._engine, generation_pb2.Usage(completion_tokens=seen, total_tokens=seen))

    def _receipt(self, lanes: Lanes) -> chat_pb2.Receipt:
        texts = lanes.all()
        return chat_pb2.Receipt(
            generated_characters=sum(lane.written for lane in texts),
            released_characters=sum(lane.released for lane in texts),
            redacted_characters=sum(lane.redacted for lane in texts),
            withheld_characters=sum(lane.held for lane in texts),
            most_held_characters=max((lane.most_held for lane in texts), default=0),
            longest_hold=duration(max((lane.longest_hold for lane in texts), default=0.0)),
            input_shields=self._covering(policy_pb2.DIRECTION_INPUT) if "input_cleared" in self._times else [],
            output_shields=self._covering(policy_pb2.DIRECTION_OUTPUT) if self._all_seen else [],
            holds=lanes.holds.all(time.monotonic()),
        )

    def _covering(self, direction: policy_pb2.Direction.ValueType) -> list[str]:
        """The shields that have seen all text of a way and did with it what the policy says."""
        side = self._policy.input if direction == policy_pb2.DIRECTION_INPUT else self._policy.output
        return [shield.name for shield in side.shields if (direction, shield.name) not in self._failed]

    def _waits_on(self, verdict: policy_pb2.Verdict) -> bool:
        """Whether a verdict only says that a shield takes long, and text goes on waiting for it or never leaves."""
        budget = self._policy.output.latency_budget
        return verdict.error == LATENCY_BUDGET and budget is not None and budget.over != "degrade"

    def _elapsed(self) -> float:
        return time.monotonic() - self._begun


def _sum(one: generation_pb2.Usage, other: generation_pb2.Usage) -> generation_pb2.Usage:
    return generation_pb2.Usage(
        prompt_tokens=one.prompt_tokens + other.prompt_tokens,
        cached_tokens=one.cached_tokens + other.cached_tokens,
        completion_tokens=one.completion_tokens + other.completion_tokens,
        total_tokens=one.total_tokens + other.total_tokens,
    )
