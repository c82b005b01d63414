"""Shields from their specifications: checked, built once, and shared by all streams that ask for the same."""

import re
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, Final

from google.protobuf import json_format
from pydantic import ValidationError

from shieldmesh import context, errors
from shieldmesh.profile.options import (
    SHIELD_TYPES,
    DenyListOptions,
    InvisibleOptions,
    PiiOptions,
    SecretsOptions,
    ShieldOptions,
    UrlOptions,
)
from shieldmesh.profile.policy import MAX_TIMEOUT
from shieldmesh.v1 import policy_pb2

from .detectors import deny_list, invisible, pii, secrets, url
from .match import MatchShield
from .matching.pattern import Pattern
from .shield import Rules, Shield

MAX_SHIELDS: Final = 64
_AS_WRITTEN: Final = (InvisibleOptions, UrlOptions)
"""Of shields that look at a text as it is written, not at what it shows."""
_NAME: Final = re.compile(r"[a-z0-9_-]{1,64}")


class Catalogue:
    """Builds shields and keeps the last ones it built. Shields are immutable; one serves any number of streams."""

    def __init__(self, *, capacity: int, default_timeout: float) -> None:
        """`capacity` is how many shields are kept, `default_timeout` the seconds where a specification says nothing."""
        self._capacity = capacity
        self._default_timeout = default_timeout
        self._built: OrderedDict[bytes, Shield] = OrderedDict()

    async def shields(self, specs: Sequence[policy_pb2.ShieldSpec], field: str = "shields") -> tuple[Shield, ...]:
        """The shields of a set, in its order; `field` is where the set lies in the request.

        Raises:
            InvalidArgumentError: a specification is wrong; `field` names the place.
        """
        if len(specs) > MAX_SHIELDS:
            raise _wrong(field, f"a set has at most {MAX_SHIELDS} shields, this one has {len(specs)}")
        shields: list[Shield] = []
        names: set[str] = set()
        for index, spec in enumerate(specs):
            place = f"{field}[{index}]"
            shields.append(await self._shield(spec, place))
            if spec.name in names:
                raise _wrong(f"{place}.name", "another shield of the set has this name; names must differ")
            names.add(spec.name)
        return tuple(shields)

    async def _shield(self, spec: policy_pb2.ShieldSpec, place: str) -> Shield:
        key = spec.SerializeToString(deterministic=True)
        shield = self._built.get(key)
        if shield is None:
            # Thousands of terms take a while to compile: not on the loop.
            shield = self._built[key] = await context.run_in_thread(self.build, spec, place)
            if len(self._built) > self._capacity:
                self._built.popitem(last=False)
        if key in self._built:
            self._built.move_to_end(key)
        return shield

    def build(self, spec: policy_pb2.ShieldSpec, place: str = "shield") -> Shield:
        """The shield of a specification, built anew; `place` is where that lies in the request.

        Raises:
            InvalidArgumentError: the specification is wrong; `field` names the place.
        """
        rules = self._rules(spec, place)
        options = _options(spec, place)
        return MatchShield(rules, tuple(_patterns(options)), normalise=not isinstance(options, _AS_WRITTEN))

    def _rules(self, spec: policy_pb2.ShieldSpec, place: str) -> Rules:
        if not _NAME.fullmatch(spec.name):
            raise _wrong(f"{place}.name", "a shield's name is 1 to 64 of a-z, 0-9, _ and -")
        if spec.type not in SHIELD_TYPES:
            raise _wrong(f"{place}.type", f"there is no such type of shield here: expected {_either(SHIELD_TYPES)}")
        if spec.action not in _ACTIONS:
            raise _wrong(f"{place}.action", "an action is required: block, redact, flag or allow")
        for kind, action in spec.action_by_kind.items():
            known = SHIELD_TYPES[spec.type].finding_kinds
            if kind not in known:
                raise _wrong(f"{place}.action_by_kind", f"{spec.type} has no such kind: expected {_either(known)}")
            if action not in _ACTIONS:
                raise _wrong(f"{place}.action_by_kind[{kind}]", "an action is required: block, redact, flag or allow")
        if spec.on_error not in policy_pb2.OnError.values():
            raise _wrong(f"{place}.on_error", "expected closed or open")
        return Rules(
            name=spec.name,
            action=spec.action,
            action_by_kind=dict(spec.action_by_kind),
            fails_open=spec.on_error == policy_pb2.ON_ERROR_OPEN,
            timeout=self._timeout(spec, place),
            removes=SHIELD_TYPES[spec.type].removes,
        )

    def _timeout(self, spec: policy_pb2.ShieldSpec, place: str) -> float:
        if not spec.HasField("timeout"):
            return self._default_timeout
        timeout = spec.timeout.seconds + spec.timeout.nanos / 1e9
        if not 0 < timeout <= MAX_TIMEOUT:
            raise _wrong(f"{place}.timeout", f"a timeout is over 0 and at most {MAX_TIMEOUT:g} seconds")
        return timeout


_ACTIONS: Final = frozenset(policy_pb2.Action.values()) - {policy_pb2.ACTION_UNSPECIFIED}


def _options(spec: policy_pb2.ShieldSpec, place: str) -> ShieldOptions:
    values: dict[str, Any] = json_format.MessageToDict(spec.options)  # Any: JSON values that are validated here
    try:
        return SHIELD_TYPES[spec.type].options.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"])
        raise _wrong(f"{place}.options{''.join(steps)}", _sentence(first["type"], first["msg"])) from None


def _sentence(kind: str, message: str) -> str:
    known = {"missing": "it is required", "extra_forbidden": "this type of shield has no such option"}
    return known.get(kind, message[0].lower() + message[1:])


def _patterns(options: ShieldOptions) -> Iterable[Pattern]:
    match options:
        case PiiOptions():
            return pii.patterns(options)
        case SecretsOptions():
            return secrets.patterns(options)
        case DenyListOptions():
            return deny_list.patterns(options)
        case InvisibleOptions():
            return invisible.patterns(options)
        case UrlOptions():
            return (url.pattern(options.allow),)
        case _:
            raise TypeError(f"no patterns for {type(options).__name__}")


def _either(names: Iterable[str]) -> str:
    return f"one of {', '.join(names)}"


def _wrong(field: str, message: str) -> errors.InvalidArgumentError:
    return errors.InvalidArgumentError(f"{field}: {message}", reason="SHIELD_SET_INVALID", field=field)
