"""What may leave of one text, from what all its shields have reported. Pure: no I/O, no clock.

The rules, each of which depends on the text alone and not on how it was cut, nor on which shield was faster:

1. Findings that redact or block and overlap are one cluster. A cluster that holds a block is blocked from its start;
   any other becomes one edit, with the placeholder of the finding that starts first (then: the longest, then: of the
   shield listed first).
2. The release is the least watermark of the shields that hold; it never lies inside a cluster. While a shield of the
   kind whole holds, it is 0; such a shield is heard when all others have decided and none of them blocks.
3. A block counts as soon as every start up to it is decided; of several, the one that starts first. It is the last
   thing that is said.
4. A finding is told when the release has passed its start, so none behind a block is. Each is told with its own action,
   also where another's wins; one inside another of the same shield, kind and action is not told beside it.
5. Nothing waits for a slow shield that holds nothing: what it has not said when a block comes is not said.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from shieldmesh.v1 import policy_pb2

from .shield import Action, Finding, Progress, Rules


class Judged(NamedTuple):
    """A finding and what the policy does about it. Sorts by place, the longest first."""

    start: int
    minus_end: int
    shield: int
    action: Action
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
    """Something about a shield that is no finding, and what the policy does about that."""

    shield: int
    action: Action
    error: str


class Release(NamedTuple):
    """What is new about a text.

    Attributes:
        watermark: Text before this may leave, with the edits applied.
    """

    watermark: int
    edits: tuple[Replacement, ...] = ()
    findings: tuple[Judged, ...] = ()
    failures: tuple[Failure, ...] = ()
    blocked: bool = False

    def joined(self, later: "Release") -> "Release":
        """Both as one."""
        return Release(
            later.watermark,
            self.edits + later.edits,
            tuple(sorted(self.findings + later.findings)),
            self.failures + later.failures,
            later.blocked,
        )


Namer: TypeAlias = Callable[[int, Finding], str]
"""What takes the place of a finding of a shield."""


@dataclass(slots=True)
class _Cluster:
    start: int
    end: int
    members: list[Judged] = field(default_factory=list["Judged"])

    def edit(self, namer: Namer) -> Replacement:
        first = min(self.members)
        return Replacement(self.start, self.end, namer(first.shield, first.finding))


class Ledger:
    """The state of one text: what every shield has said, and what was released on the strength of it."""

    def __init__(self, rules: Sequence[Rules], namer: Namer | None = None) -> None:
        """`namer` gives the placeholders; without it, they are the kinds in brackets."""
        self._rules = rules
        self._namer = namer or _in_brackets
        parts = [(number, each) for number, each in enumerate(rules) if each.kind != "whole"]
        self._watermarks = {number: 0 for number, each in parts if each.may_hold}
        self._decided = {number: 0 for number, each in parts if each.may_hold or each.kind == "match"}
        self._whole: set[int] = {number for number, each in enumerate(rules) if each.kind == "whole" and each.may_hold}
        self._unheard: dict[int, Progress] = {}
        self._relaxed: set[int] = set()
        self._pending: list[Judged] = []
        self._failures: list[Failure] = []
        self._told: dict[tuple[int, Action, str], tuple[int, int]] = {}
        self._released = 0
        self._final = False
        self._blocked = False

    def excuse(self, shield: int) -> None:
        """Takes down that a shield does not look at this text."""
        self._forget(shield)

    def report(self, shield: int, progress: Progress) -> None:
        """Takes down what a shield knows now."""
        if shield in self._whole:
            self._unheard[shield] = progress
            return
        if shield in self._watermarks:
            self._watermarks[shield] = progress.watermark
        if shield in self._decided:
            self._decided[shield] = progress.decided
        if progress.findings:
            self._judge(shield, progress.findings)

    def fail(self, shield: int, error: str) -> None:
        """Takes down that a shield failed: it blocks, or holds no longer, as its policy says."""
        closed = not self._rules[shield].fails_open
        self._failures.append(Failure(shield, policy_pb2.ACTION_BLOCK if closed else policy_pb2.ACTION_FLAG, error))
        self._blocked |= closed
        self._forget(shield)

    def remark(self, shield: int, error: str) -> None:
        """Has it told that something is wrong with a shield that goes on as before."""
        self._failures.append(Failure(shield, policy_pb2.ACTION_FLAG, error))

    def relax(self, shield: int, error: str) -> None:
        """Lets no text wait for a shield any longer. What it finds is told: a redaction as a flag, a block ends all."""
        self.remark(shield, error)
        self._relaxed.add(shield)
        unheard = self._unheard.pop(shield, None)
        self._forget(shield)
        if unheard is not None:
            self.report(shield, unheard)

    def end(self, shield: int, error: str) -> None:
        """Takes down that a shield took too long for the turn, which ends it."""
        self._failures.append(Failure(shield, policy_pb2.ACTION_BLOCK, error))
        self._blocked = True

    def holding(self, seen: int) -> list[str]:
        """The names of the shields that have not cleared all that was seen."""
        if self._whole and seen:
            late = sorted({*self._whole, *(number for number, mark in self._watermarks.items() if mark < seen)})
            return [self._rules[number].name for number in late]
        return [self._rules[number].name for number, mark in self._watermarks.items() if mark < seen]

    def waited_for(self, seen: int) -> list[int]:
        """The slow shields that hold text which no quick one holds."""
        quick = min((mark for n, mark in self._watermarks.items() if self._rules[n].kind == "match"), default=seen)
        windows = [n for n, mark in self._watermarks.items() if mark < quick and self._rules[n].kind == "window"]
        return windows + (sorted(self._whole) if quick else [])

    def settle(self, seen: int) -> Release:
        """What may leave now, of `seen` characters, beyond what was told before."""
        if self._unheard:
            self._hear(seen)
        if self._blocked:
            failures, self._failures = tuple(self._failures), []
            return Release(self._released, failures=failures, blocked=True)
        watermark = 0 if self._whole else min(self._watermarks.values(), default=seen)
        if not self._pending and not self._failures:
            self._released = watermark
            return Release(watermark)
        # At the end even an empty text is decided.
        return self._settle(watermark, seen + 1 if self._final else min(self._decided.values(), default=seen))

    def _settle(self, watermark: int, decided: int) -> Release:
        clusters = list(_clusters(self._pending))
        block = min((each for each in self._pending if each.action == policy_pb2.ACTION_BLOCK), default=None)
        release = watermark
        if block is not None:
            release = min(release, next(cluster.start for cluster in clusters if block in cluster.members))
        for cluster in clusters:
            if cluster.start < release < cluster.end:
                release = cluster.start
        # A relaxed shield can find something in text that has left.
        release = self._released = max(release, self._released)
        told = [each for each in self._pending if _passed(each, release)]
        self._pending = [each for each in self._pending if not _passed(each, release)]
        edits = tuple(
            cluster.edit(self._namer)
            for cluster in clusters
            if cluster.start < cluster.end <= release and block not in cluster.members
        )
        failures, self._failures = tuple(self._failures), []
        self._blocked = block is not None and max(decided, release) > block.start
        if self._blocked and block is not None and not _passed(block, release):
            told.append(block)
        return Release(release, edits, tuple(self._outermost(told)), failures, self._blocked)

    def _outermost(self, told: Iterable[Judged]) -> Iterator[Judged]:
        """What is to be told, by place, without what lies inside what was told. The block is, whatever it lies in."""
        for each in sorted(told):
            key = (each.shield, each.action, each.finding.kind)
            start, end = self._told.get(key, (0, -1))
            if each.end <= end and start <= each.start and each.action != policy_pb2.ACTION_BLOCK:
                continue
            self._told[key] = (each.start, each.end)
            yield each

    def _judge(self, shield: int, findings: Iterable[Finding]) -> None:
        for finding in findings:
            action = self._rules[shield].action_for(finding.kind, finding.score)
            if action == policy_pb2.ACTION_REDACT and shield in self._relaxed:
                action = policy_pb2.ACTION_FLAG
            if action > policy_pb2.ACTION_ALLOW:
                self._pending.append(Judged(finding.start, -finding.end, shield, action, finding))

    def _hear(self, seen: int) -> None:
        if set(self._unheard) != self._whole or min(self._decided.values(), default=seen) < seen:
            return
        if any(each.action == policy_pb2.ACTION_BLOCK for each in self._pending):
            return
        unheard, self._unheard, self._whole = self._unheard, {}, set[int]()
        self._final = True
        for shield, progress in sorted(unheard.items()):
            self._judge(shield, progress.findings)

    def _forget(self, shield: int) -> None:
        self._watermarks.pop(shield, None)
        self._decided.pop(shield, None)
        self._whole.discard(shield)
        self._unheard.pop(shield, None)


def _passed(each: Judged, release: int) -> bool:
    """Whether the release has passed the start of a finding; one in an empty text has nothing to wait for."""
    return each.start < release or each.end == 0


def _clusters(findings: Iterable[Judged]) -> Iterable[_Cluster]:
    """Findings that redact or block, joined where they overlap, from left to right."""
    cluster: _Cluster | None = None
    for each in sorted(findings):
        if each.action < policy_pb2.ACTION_REDACT:
            continue
        if cluster is None or each.start >= cluster.end > cluster.start:
            if cluster is not None:
                yield cluster
            cluster = _Cluster(each.start, each.end)
        cluster.end = max(cluster.end, each.end)
        cluster.members.append(each)
    if cluster is not None:
        yield cluster


def _in_brackets(_shield: int, finding: Finding) -> str:
    return f"[{finding.kind.upper()}]"
