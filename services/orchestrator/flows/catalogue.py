"""Which flows there are, and which modules they may call: what the operator allows, and no profile can widen."""

import importlib
import inspect
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Final, cast

from shieldmesh.errors import FailedPreconditionError
from shieldmesh.flow import Flow
from shieldmesh.module.target import Target
from shieldmesh.module.url import is_url, target_at
from shieldmesh.profile import Profile, Profiles
from shieldmesh.profile.policy import FlowPolicy

SETTING: Final = "SHIELDMESH_ORCHESTRATOR_FLOWS"
MODULES: Final = "SHIELDMESH_ORCHESTRATOR_MODULES"


class CatalogueError(Exception):
    """What the operator set is wrong; the message says which setting and why."""


@dataclass(frozen=True, slots=True)
class NamedFlow:
    """A flow that profiles can name."""

    name: str
    run: Flow


class Catalogue:
    """Flows by name, and modules by URL. Empty unless something is set."""

    def __init__(self, flows: Iterable[NamedFlow] = (), modules: Collection[str] = ()) -> None:
        """Takes what was set.

        Raises:
            CatalogueError: a URL names no module.
        """
        self._flows = {flow.name: flow for flow in flows}
        self._modules = {url: _target(url) for url in modules}

    def flow(self, policy: FlowPolicy) -> NamedFlow:
        """The flow that a policy names.

        Raises:
            FailedPreconditionError: there is none; profiles that were checked have one.
        """
        flow = self._flows.get(policy.name)
        if flow is None:
            raise FailedPreconditionError(self._missing(policy.name), reason="FLOW_NOT_FOUND")
        return flow

    def target(self, where: str) -> Target | None:
        """What answers for a module that a policy names by URL; None: it names a model of the inference service.

        Raises:
            FailedPreconditionError: the URL is not allowed; profiles that were checked name none of these.
        """
        if not is_url(where):
            return None
        if where not in self._modules:
            raise FailedPreconditionError(_forbidden(), reason="MODULE_NOT_ALLOWED")
        return self._modules[where]

    def complaints(self, profiles: Profiles) -> Iterator[tuple[str, Profile, str, str]]:
        """What profiles want that is not there: the tenant, the profile, the field and what is wrong with it."""
        for tenant, profile in profiles:
            policy = profile.policy.flow
            if policy is None:
                continue
            if policy.name not in self._flows:
                yield tenant, profile, "flow", self._missing(policy.name)
            for name, where in policy.modules.items():
                if is_url(where) and where not in self._modules:
                    yield tenant, profile, f"flow.modules.{name}", _forbidden()

    def _missing(self, name: str) -> str:
        known = ", ".join(sorted(self._flows)) or "none"
        return f"there is no flow {name}: expected one of the modules in {SETTING}, which has {known}"


NO_FLOWS: Final = Catalogue()


def find_flows(modules: Iterable[str]) -> Mapping[str, NamedFlow]:
    """The flows in Python modules: the asynchronous generator functions that a module defines or names in `__all__`.

    Raises:
        CatalogueError: a module cannot be imported or has no flow, or two have one of the same name.
    """
    flows: dict[str, NamedFlow] = {}
    places: dict[str, str] = {}
    for place in modules:
        found = dict(_flows_of(_imported(place)))
        if not found:
            raise CatalogueError(f"{SETTING}: {place} has no flow: expected functions `async def` that yield")
        for name, flow in found.items():
            if name in flows:
                raise CatalogueError(f"{SETTING}: {places[name]} and {place} both have a flow {name}: rename one")
            flows[name], places[name] = NamedFlow(name, flow), place
    return flows


def _imported(place: str) -> ModuleType:
    try:
        return importlib.import_module(place)
    except Exception as error:  # whatever is wrong with it, the operator is to hear which one it is
        raise CatalogueError(
            f"{SETTING}: {place} cannot be imported ({type(error).__name__}: {error}): "
            "expected the name of a Python module, found by way of PYTHONPATH"
        ) from error


def _flows_of(module: ModuleType) -> Iterator[tuple[str, Flow]]:
    exported = getattr(module, "__all__", None)
    for name, value in vars(module).items():
        public = name in exported if exported is not None else not name.startswith("_")
        own = exported is not None or getattr(value, "__module__", "") == module.__name__
        if public and own and inspect.isasyncgenfunction(value):
            yield name, cast("Flow", value)  # what else it does, nobody can know before it runs


def _target(url: str) -> Target:
    try:
        return target_at(url)
    except (ValueError, ImportError) as error:
        raise CatalogueError(f"{MODULES}: {error}") from None


def _forbidden() -> str:
    # The URL is not quoted: it may name a key.
    return f"modules at URLs must be allowed, letter by letter, by {MODULES}: this one is not"
