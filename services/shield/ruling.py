"""What the policy says about a shield, from its specification."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Final

from shieldmesh import errors
from shieldmesh.profile.entry import MAX_PLACEHOLDER, MAX_TIMEOUT
from shieldmesh.profile.options import SHIELD_TYPES
from shieldmesh.profile.wire import PARTS
from shieldmesh.v1 import policy_pb2

from .shield import Rules, Threshold

_NAME: Final = re.compile(r"[a-z0-9_-]{1,64}")
_FIELD: Final = re.compile(r"\{[^}]*\}")
_ACTIONS: Final = frozenset(policy_pb2.Action.values()) - {policy_pb2.ACTION_UNSPECIFIED}
_ACTION_REQUIRED: Final = "an action is required: block, redact, flag or allow"


def wrong(field: str, message: str) -> errors.InvalidArgumentError:
    """The error for a field of a shield set."""
    return errors.InvalidArgumentError(f"{field}: {message}", reason="SHIELD_SET_INVALID", field=field)


def rules(spec: policy_pb2.ShieldSpec, place: str, *, default_timeout: float) -> Rules:
    """The rules of a shield; `place` is where its specification lies in the request.

    Raises:
        InvalidArgumentError: something is wrong; `field` names it.
    """
    if not _NAME.fullmatch(spec.name):
        raise wrong(f"{place}.name", "a shield's name is 1 to 64 of a-z, 0-9, _ and -")
    if spec.type not in SHIELD_TYPES:
        raise wrong(f"{place}.type", f"there is no such type of shield here: expected {_either(SHIELD_TYPES)}")
    if spec.action not in _ACTIONS:
        raise wrong(f"{place}.action", _ACTION_REQUIRED)
    for kind, action in spec.action_by_kind.items():
        _check_kind(spec.type, kind, f"{place}.action_by_kind")
        if action not in _ACTIONS:
            raise wrong(f"{place}.action_by_kind[{kind}]", _ACTION_REQUIRED)
    if spec.on_error not in policy_pb2.OnError.values():
        raise wrong(f"{place}.on_error", "expected closed or open")
    return Rules(
        name=spec.name,
        action=spec.action,
        action_by_kind=dict(spec.action_by_kind),
        fails_open=spec.on_error == policy_pb2.ON_ERROR_OPEN,
        timeout=_timeout(spec, place, default_timeout),
        kind=SHIELD_TYPES[spec.type].kind,
        thresholds=_thresholds(spec, place),
        parts=_parts(spec, place),
        placeholder=_placeholder(spec, place),
    )


def _timeout(spec: policy_pb2.ShieldSpec, place: str, default: float) -> float:
    if not spec.HasField("timeout"):
        return default
    timeout = spec.timeout.seconds + spec.timeout.nanos / 1e9
    if not 0 < timeout <= MAX_TIMEOUT:
        raise wrong(f"{place}.timeout", f"a timeout is over 0 and at most {MAX_TIMEOUT:g} seconds")
    return timeout


def _thresholds(spec: policy_pb2.ShieldSpec, place: str) -> dict[str, Sequence[Threshold]]:
    by_kind: dict[str, list[Threshold]] = {}
    for index, each in enumerate(spec.thresholds):
        field = f"{place}.thresholds[{index}]"
        if each.kind:
            _check_kind(spec.type, each.kind, f"{field}.kind")
        if not (math.isfinite(each.score) and 0 <= each.score <= 1):
            raise wrong(f"{field}.score", "a score is 0 to 1")
        if each.action not in _ACTIONS:
            raise wrong(f"{field}.action", _ACTION_REQUIRED)
        steps = by_kind.setdefault(each.kind, [])
        if any(step.score == each.score for step in steps):
            raise wrong(f"{field}.score", "another threshold of this kind has this score")
        steps.append(Threshold(each.score, each.action))
    return {kind: sorted(steps, reverse=True) for kind, steps in by_kind.items()}


def _parts(spec: policy_pb2.ShieldSpec, place: str) -> frozenset[policy_pb2.TextPart.ValueType]:
    if not spec.parts:
        return frozenset(PARTS[part] for part in SHIELD_TYPES[spec.type].parts)
    if unknown := set(spec.parts) - set(PARTS.values()):
        raise wrong(f"{place}.parts", f"expected content, reasoning or tool arguments, not {min(unknown)}")
    return frozenset(spec.parts)


def _placeholder(spec: policy_pb2.ShieldSpec, place: str) -> str:
    if not spec.HasField("placeholder"):
        return "" if SHIELD_TYPES[spec.type].removes else "[{kind}]"
    if len(spec.placeholder) > MAX_PLACEHOLDER:
        raise wrong(f"{place}.placeholder", f"a placeholder has at most {MAX_PLACEHOLDER} characters")
    if unknown := set(_FIELD.findall(spec.placeholder)) - {"{kind}", "{pseudonym}"}:
        raise wrong(f"{place}.placeholder", f"expected {{kind}} and {{pseudonym}} alone in braces, not {min(unknown)}")
    return spec.placeholder


def _check_kind(shield_type: str, kind: str, field: str) -> None:
    """A type that lists no kinds has whatever its model or service says."""
    known = SHIELD_TYPES[shield_type].finding_kinds
    if known and kind not in known:
        raise wrong(field, f"{shield_type} has no such kind: expected {_either(known)}")


def _either(names: Iterable[str]) -> str:
    return f"one of {', '.join(names)}"
