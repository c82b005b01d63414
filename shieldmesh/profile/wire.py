"""A policy in the words of the contract."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct

from shieldmesh import errors
from shieldmesh.v1 import generation_pb2, policy_pb2, shield_pb2

from .entry import Action, OnError, Scale, strictest
from .options import TextPart
from .policy import AnyShield, LatencyBudget, OverBudget, Policy, SamplingPolicy

ACTIONS: Final["dict[Action, policy_pb2.Action.ValueType]"] = {
    "allow": policy_pb2.ACTION_ALLOW,
    "flag": policy_pb2.ACTION_FLAG,
    "redact": policy_pb2.ACTION_REDACT,
    "block": policy_pb2.ACTION_BLOCK,
}
ON_ERROR: Final["dict[OnError, policy_pb2.OnError.ValueType]"] = {
    "closed": policy_pb2.ON_ERROR_CLOSED,
    "open": policy_pb2.ON_ERROR_OPEN,
}
PARTS: Final["dict[TextPart, policy_pb2.TextPart.ValueType]"] = {
    "content": policy_pb2.TEXT_PART_CONTENT,
    "reasoning": policy_pb2.TEXT_PART_REASONING,
    "tool_arguments": policy_pb2.TEXT_PART_TOOL_ARGUMENTS,
}
OVER_BUDGET: Final["dict[OverBudget, shield_pb2.OverBudget.ValueType]"] = {
    "hold": shield_pb2.OVER_BUDGET_HOLD,
    "degrade": shield_pb2.OVER_BUDGET_DEGRADE,
    "fail": shield_pb2.OVER_BUDGET_FAIL,
}


@dataclass(frozen=True, slots=True)
class Wording:
    """What calls on behalf of a policy say, each time the same. The messages are shared: copy before you change one."""

    input_shields: tuple[policy_pb2.ShieldSpec, ...]
    output_shields: tuple[policy_pb2.ShieldSpec, ...]
    latency_budget: shield_pb2.LatencyBudget | None
    sampling: generation_pb2.Sampling
    model_options: Struct


def wording(policy: Policy) -> Wording:
    """The parts of the policy as messages."""
    return Wording(
        input_shields=tuple(map(shield_spec, policy.input.shields)),
        output_shields=tuple(map(shield_spec, policy.output.shields)),
        latency_budget=latency_budget(policy.output.latency_budget),
        sampling=sampling(policy.sampling),
        model_options=struct(policy.model_options),
    )


def shield_spec(entry: AnyShield) -> policy_pb2.ShieldSpec:
    """The shield as a `ShieldSpec`."""
    return policy_pb2.ShieldSpec(
        name=entry.name,
        type=entry.type,
        # Where its findings have thresholds, this counts for servers alone that do not know them.
        action=ACTIONS[strictest(entry.action)],
        action_by_kind={kind: ACTIONS[action] for kind, action in entry.actions.items() if isinstance(action, str)},
        on_error=ON_ERROR[entry.on_error],
        timeout=None if entry.timeout is None else errors.duration(entry.timeout),
        options=struct(entry.options.model_dump(mode="json")),
        thresholds=_thresholds(entry),
        placeholder=entry.placeholder,
        parts=[PARTS[part] for part in entry.parts],
    )


def latency_budget(budget: LatencyBudget | None) -> shield_pb2.LatencyBudget | None:
    """The budget as a `LatencyBudget`; None stays None."""
    if budget is None:
        return None
    return shield_pb2.LatencyBudget(time=errors.duration(budget.time), over=OVER_BUDGET[budget.over])


def sampling(policy: SamplingPolicy) -> generation_pb2.Sampling:
    """The sampling as a `Sampling`, with the fields that the policy sets."""
    return generation_pb2.Sampling(**policy.model_dump(exclude_none=True))


def _thresholds(entry: AnyShield) -> Iterator[policy_pb2.Threshold]:
    for kind, reaction in entry.reactions.items():
        if isinstance(reaction, Scale):
            for action, score in reaction.steps().items():
                yield policy_pb2.Threshold(kind=kind, score=score, action=ACTIONS[action])


def struct(values: dict[str, Any]) -> Struct:  # Any: JSON values of any shape
    """JSON values as a `Struct`."""
    return json_format.ParseDict(values, Struct())
