"""Shields from their specifications: checked, built once, and shared by all streams that ask for the same."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

from google.protobuf import json_format
from pydantic import ValidationError

from shieldmesh import context
from shieldmesh.profile.options import SHIELD_TYPES, ShieldOptions
from shieldmesh.v1 import policy_pb2

from .building import OptionError, build
from .remote.remotes import Remotes
from .ruling import rules, wrong
from .shield import Shield
from .window.building import Means

MAX_SHIELDS: Final = 64


class Catalogue:
    """Builds shields and keeps the last ones it built. Shields are immutable; one serves any number of streams."""

    def __init__(
        self, *, capacity: int, default_timeout: float, remotes: Remotes | None = None, means: Means | None = None
    ) -> None:
        """Makes an empty one.

        Args:
            capacity: How many shields are kept.
            default_timeout: Seconds where a specification says nothing.
            remotes: The remote shields that may be called; None: there are none.
            means: What there is for shields that ask models; None: nothing.
        """
        self._capacity = capacity
        self._remotes = remotes or Remotes()
        self._means = means or Means()
        self._default_timeout = default_timeout
        self._built: OrderedDict[bytes, Shield] = OrderedDict()

    async def shields(self, specs: Sequence[policy_pb2.ShieldSpec], field: str = "shields") -> tuple[Shield, ...]:
        """The shields of a set, in its order; `field` is where the set lies in the request.

        Raises:
            InvalidArgumentError: a specification is wrong; `field` names the place.
        """
        if len(specs) > MAX_SHIELDS:
            raise wrong(field, f"a set has at most {MAX_SHIELDS} shields, this one has {len(specs)}")
        shields: list[Shield] = []
        names: set[str] = set()
        for index, spec in enumerate(specs):
            place = f"{field}[{index}]"
            shields.append(await self._shield(spec, place))
            if spec.name in names:
                raise wrong(f"{place}.name", "another shield of the set has this name; names must differ")
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
        checked = rules(spec, place, default_timeout=self._default_timeout)
        try:
            return build(checked, _options(spec, place), self._remotes, self._means)
        except OptionError as error:
            raise wrong(f"{place}.options.{error.option}", error.message) from None


def _options(spec: policy_pb2.ShieldSpec, place: str) -> ShieldOptions:
    try:
        values: dict[str, Any] = json_format.MessageToDict(spec.options)  # Any: JSON values that are validated here
    except ValueError:
        raise wrong(f"{place}.options", "a number in it is not finite, which JSON cannot say") from None
    try:
        return SHIELD_TYPES[spec.type].options.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"])
        raise wrong(f"{place}.options{''.join(steps)}", _sentence(first["type"], first["msg"])) from None


def _sentence(kind: str, message: str) -> str:
    known = {"missing": "it is required", "extra_forbidden": "this type of shield has no such option"}
    return known.get(kind, message[0].lower() + message[1:])
