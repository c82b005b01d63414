"""Profiles, and who may use which."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

from .policy import Policy
from .source import Problem
from .wire import Wording, wording


@dataclass(frozen=True)
class Profile:
    """A named, versioned policy."""

    name: str
    version: str
    """12 hexadecimal digits, the same for the same policy, whatever files, comments and layout it comes from."""
    policy: Policy
    notices: tuple[Problem, ...] = ()
    """What is not wrong with it, but may surprise."""
    shadow: str = ""
    """The profile whose shields run beside its own without acting; "" means none."""

    @cached_property
    def wording(self) -> Wording:
        """The policy in the words of the contract, made when first asked for."""
        return wording(self.policy)


Shelf = Mapping[str, Profile]
"""Profiles by name."""


@dataclass(frozen=True, slots=True)
class Profiles:
    """All profiles of a mesh at one moment. Never changes."""

    common: Shelf
    """Those of every tenant that has none of its own."""
    tenants: Mapping[str, Shelf] = field(default_factory=lambda: MappingProxyType({}))
    """Those of each tenant that has its own."""

    def of(self, tenant: str) -> Shelf:
        """The profiles that a tenant may use, and no other's; "" stands for nobody."""
        return self.tenants.get(tenant, self.common)

    def __iter__(self) -> Iterator[tuple[str, Profile]]:
        """Every profile with its tenant; "" stands for the common ones."""
        for tenant, shelf in (("", self.common), *self.tenants.items()):
            for profile in shelf.values():
                yield tenant, profile
