"""The account of a turn: where its time went, what it cost, what the shields did."""

import time
from collections.abc import Iterable

from shieldmesh.errors import duration
from shieldmesh.profile import Profile
from shieldmesh.v1 import chat_pb2, generation_pb2, inference_pb2

from .release import Lane

CONTENT_FILTER = generation_pb2.FINISH_REASON_CONTENT_FILTER


class Account:
    """Notes what happens and, at the end, sums it up."""

    def __init__(self, profile: Profile) -> None:
        self._policy = profile.policy
        self._begun = time.monotonic()
        self._timings = chat_pb2.Timings()
        self._usage = generation_pb2.Usage()
        self._reason = generation_pb2.FINISH_REASON_UNSPECIFIED

    def input_cleared(self) -> None:
        """All input shields have spoken."""
        self._timings.input_cleared.CopyFrom(duration(self._elapsed()))

    def admitted(self) -> None:
        """The engine has the request."""
        self._timings.admitted.CopyFrom(duration(self._elapsed()))

    def generated(self, tokens: int) -> None:
        """The engine sent tokens."""
        if not self._timings.HasField("first_token"):
            self._timings.first_token.CopyFrom(duration(self._elapsed()))
        self._usage.completion_tokens += tokens

    def released(self) -> None:
        """Text left for the client."""
        if not self._timings.HasField("first_release"):
            self._timings.first_release.CopyFrom(duration(self._elapsed()))

    def engine_finished(self, finished: inference_pb2.GenerateFinished) -> None:
        """The engine is done; its own count replaces the running one."""
        self._reason = finished.reason
        self._usage.CopyFrom(finished.usage)

    def blocked(self) -> None:
        """A shield ended the turn."""
        self._reason = CONTENT_FILTER
        self._usage.total_tokens = self._usage.prompt_tokens + self._usage.completion_tokens

    def finished(self, lanes: Iterable[Lane]) -> chat_pb2.TurnFinished:
        """The sum."""
        self._timings.total.CopyFrom(duration(self._elapsed()))
        return chat_pb2.TurnFinished(
            reason=self._reason, usage=self._usage, receipt=self._receipt(list(lanes)), timings=self._timings
        )

    def _receipt(self, lanes: list[Lane]) -> chat_pb2.Receipt:
        return chat_pb2.Receipt(
            generated_characters=sum(lane.written for lane in lanes),
            released_characters=sum(lane.released for lane in lanes),
            redacted_characters=sum(lane.redacted for lane in lanes),
            withheld_characters=sum(lane.held for lane in lanes),
            most_held_characters=max((lane.most_held for lane in lanes), default=0),
            longest_hold=duration(max((lane.longest_hold for lane in lanes), default=0.0)),
            input_shields=[shield.name for shield in self._policy.input.shields],
            output_shields=[shield.name for shield in self._policy.output.shields],
        )

    def _elapsed(self) -> float:
        return time.monotonic() - self._begun
