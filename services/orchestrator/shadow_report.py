"""What is told of a candidate policy: metrics, a span, and a line in the log; kinds and places, never text."""

from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal

import structlog
from opentelemetry import trace

from shieldmesh.metrics import Labels, instruments
from shieldmesh.profile import Profile
from shieldmesh.telemetry import Name
from shieldmesh.v1 import policy_pb2

from .differences import Difference

Outcome = Literal["compared", "abandoned", "failed"]

MOST_TOLD: Final = 20
"""Differences in a line of the log."""
_DIRECTIONS: Final = {policy_pb2.DIRECTION_INPUT: "input", policy_pb2.DIRECTION_OUTPUT: "output"}

_log = structlog.stdlib.get_logger("shieldmesh.shadow")


def tell(
    live: Profile,
    candidate: Profile,
    outcome: Outcome,
    *,
    found: Sequence[Difference] = (),
    error: str = "",
    span: trace.Span = trace.INVALID_SPAN,
) -> None:
    """Tells how a candidate ended, how what it found compares, and with which error it failed."""
    meters = instruments()
    names: Labels = {Name.PROFILE: live.name, Name.CANDIDATE: candidate.name}
    meters.shadows.add(1, meters.labels({**names, Name.SHADOW_OUTCOME: outcome}))
    counts = Counter((_DIRECTIONS.get(each.place.direction, "unspecified"), each.how) for each in found)
    for (direction, how), count in counts.items():
        meters.shadow_findings.add(count, meters.labels({**names, Name.DIRECTION: direction, Name.COMPARED: how}))
    differences = [each for each in found if each.how != "same"]
    span.set_attributes({Name.SHADOW_OUTCOME: outcome, Name.DIFFERENCES: len(differences)})
    (_log.info if outcome == "compared" else _log.warning)(
        f"shadow {outcome}",
        profile=live.name,
        profile_version=live.version,
        candidate=candidate.name,
        candidate_version=candidate.version,
        **({"error": error} if error else {}),
        same=len(found) - len(differences),
        different=len(differences),
        differences=[_line(each) for each in differences[:MOST_TOLD]],
    )


def _line(each: Difference) -> str:
    place = each.place
    where = f"{_DIRECTIONS.get(place.direction, 'unspecified')} {place.text_index} {place.start}-{place.end}"
    return f"{where} {place.kind}: {_action(each.live)} -> {_action(each.shadow)}"


def _action(action: policy_pb2.Action.ValueType) -> str:
    return policy_pb2.Action.Name(action).removeprefix("ACTION_").lower()
