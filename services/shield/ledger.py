"""What may leave of one text, from what all its shields have reported. Pure: no I/O, no clock.

The rules, each of which depends on the text alone and not on how it was cut:

1. Findings that redact or block and overlap are one cluster. A cluster that holds a block is blocked from its start;
   any other becomes one edit, with the placeholder of the finding that starts first (then: the longest, then: of the
   shield listed first).
2. The release is the least watermark of the shields that hold; it never lies inside a cluster.
3. A block counts as soon as every start up to it is decided; of several, the one that starts first. It is the last
   thing that is said.
4. A finding is told when the release has passed its start, so none behind a block is. Each is told with its own action,
   also where another's wins.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from shieldmesh.v1 import policy_pb2

from .shield import Finding, Progress, Rules


class Judged(NamedTuple):
    """A finding and what the policy does about it. Sorts by place, the longest first."""

    start: int
    minus_end: int
    shield: int
    action: policy_pb2.Action.ValueType
    finding: Finding

    @property
    def end(self) -> int:
        """Where the finding ends, exclusive."""
        return -self.minus_end


@dataclass(frozen=True, slots=True)
class Replacement:
    """A span of the text and what takes its place."""

    start: int
    end: int
    placeholder: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A shield that could not do its work, and what the policy does about that."""

    shield: int
    action: policy_pb2.Action.ValueType
    error: str


@dataclass(frozen=True, slots=True)
class Release:
    """What is new about a text."""

    watermark: int
    """Text before this may leave, with the edits applied."""
    edits: tuple[Replacement, ...] = ()
    findings: tuple[Judged, ...] = ()
    failures: tuple[Failure, ...] = ()
    blocked: bool = False


@dataclass(slots=True)
class _Cluster:
    start: int
    end: int
    members: list[Judged] = field(default_factory=list["Judged"])

    def edit(self, rules: Sequence[Rules]) -> Replacement:
        first = min(self.members)
        return Replacement(self.start, self.end, rules[first.shield].placeholder(first.finding.kind))


class Ledger:
    """The state of one text: what every shield has said, and what was released on the strength of it."""

    def __init__(self, rules: Sequence[Rules]) -> None:
        self._rules = rules
        self._watermarks = {number: 0 for number, each in enumerate(rules) if each.may_hold}
        self._decided = dict.fromkeys(range(len(rules)), 0)
        self._pending: list[Judged] = []
        self._failures: list[Failure] = []
        self._released = 0
        self._blocked = False

    def report(self, shield: int, progress: Progress) -> None:
        """Takes down what a shield knows now."""
        if shield in self._watermarks:
            self._watermarks[shield] = progress.watermark
        self._decided[shield] = progress.decided
        for finding in progress.findings:
            action = self._rules[shield].action_for(finding.kind)
            if action > policy_pb2.ACTION_ALLOW:
                self._pending.append(Judged(finding.start, -finding.end, shield, action, finding))

    def fail(self, shield: int, error: str) -> None:
        """Takes down that a shield failed: it blocks, or holds no longer, as its policy says."""
        closed = not self._rules[shield].fails_open
        action = policy_pb2.ACTION_BLOCK if closed else policy_pb2.ACTION_FLAG
        self._failures.append(Failure(shield, action, error))
        self._blocked |= closed
        self._watermarks.pop(shield, None)
        self._decided.pop(shield, None)

    def holding(self, seen: int) -> list[str]:
        """The names of the shields that have not cleared all that was seen."""
        return [self._rules[shield].name for shield, mark in self._watermarks.items() if mark < seen]

    def settle(self, seen: int) -> Release:
        """What may leave now, of `seen` characters, beyond what was told before."""
        if self._blocked:
            failures, self._failures = tuple(self._failures), []
            return Release(self._released, failures=failures, blocked=True)
        watermark = min(self._watermarks.values(), default=seen)
        if not self._pending and not self._failures:
            self._released = watermark
            return Release(watermark)
        return self._settle(watermark, min([watermark, *self._decided.values()]))

    def _settle(self, watermark: int, decided: int) -> Release:
        clusters = list(_clusters(self._pending))
        block = min((each for each in self._pending if each.action == policy_pb2.ACTION_BLOCK), default=None)
        release = watermark
        if block is not None:
            release = min(release, next(c.start for c in clusters if c.start <= block.start < c.end))
        for cluster in clusters:
            if cluster.start < release < cluster.end:
                release = cluster.start
        told = [each for each in self._pending if each.start < release]
        self._pending = [each for each in self._pending if each.start >= release]
        edits = tuple(cluster.edit(self._rules) for cluster in clusters if cluster.end <= release)
        failures, self._failures = tuple(self._failures), []
        self._released = release
        self._blocked = block is not None and decided > block.start
        if self._blocked and block is not None:
            told.append(block)
        return Release(release, edits, tuple(sorted(told)), failures, self._blocked)


def _clusters(findings: Iterable[Judged]) -> Iterable[_Cluster]:
    """Findings that redact or block, joined where they overlap, from left to right."""
    cluster: _Cluster | None = None
    for each in sorted(findings):
        if each.action < policy_pb2.ACTION_REDACT:
            continue
        if cluster is None or each.start >= cluster.end:
            if cluster is not None:
                yield cluster
            cluster = _Cluster(each.start, each.end)
        cluster.end = max(cluster.end, each.end)
        cluster.members.append(each)
    if cluster is not None:
        yield cluster
