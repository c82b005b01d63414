"""What the shields found, in the words of the contract."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from shieldmesh.v1 import policy_pb2, shield_pb2

from .ledger import Judged, Release
from .shield import Shield


class Translator:
    """Translates releases of one set of shields in one direction."""

    def __init__(self, shields: Sequence[Shield], direction: policy_pb2.Direction.ValueType) -> None:
        self._names = [shield.rules.name for shield in shields]
        self._direction = direction

    def answer(
        self, lane: int, seen: int, release: Release, holding: Sequence[str]
    ) -> shield_pb2.InspectStreamResponse:
        """A release as the answer of a stream: one verdict per finding, by place."""
        answer = shield_pb2.InspectStreamResponse()
        # Written in place: a message that is made to be copied into another costs twice as much, for each text.
        clearance = answer.clearance
        clearance.lane, clearance.watermark, clearance.seen = lane, release.watermark, seen
        if holding:
            clearance.holding.extend(holding)
        if release.edits or release.findings or release.failures:
            clearance.edits.extend(self.edits(lane, release))
            clearance.verdicts.extend(self._verdict(lane, [each]) for each in release.findings)
            clearance.verdicts.extend(self._failures(lane, release))
        return answer

    def edits(self, text_index: int, release: Release) -> Iterable[shield_pb2.Edit]:
        """The edits, by start."""
        for edit in release.edits:
            yield shield_pb2.Edit(text_index=text_index, start=edit.start, end=edit.end, replacement=edit.placeholder)

    def verdicts(self, text_index: int, release: Release) -> Iterable[policy_pb2.Verdict]:
        """The verdicts on a whole text: one per shield and action."""

        def group(each: Judged) -> tuple[int, int]:
            return each.shield, each.action

        for _, findings in groupby(sorted(release.findings, key=group), group):
            yield self._verdict(text_index, sorted(findings))
        yield from self._failures(text_index, release)

    def _verdict(self, text_index: int, findings: Sequence[Judged]) -> policy_pb2.Verdict:
        return policy_pb2.Verdict(
            shield=self._names[findings[0].shield],
            direction=self._direction,
            action=findings[0].action,
            findings=[policy_pb2.Finding(**each.finding._asdict()) for each in findings],
            text_index=text_index,
        )

    def _failures(self, text_index: int, release: Release) -> Iterable[policy_pb2.Verdict]:
        for failure in release.failures:
            yield policy_pb2.Verdict(
                shield=self._names[failure.shield],
                direction=self._direction,
                action=failure.action,
                text_index=text_index,
                error=failure.error,
            )
