"""Which flows profiles may name, and which modules these may call: what the operator allows, and nothing else."""

import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from services.orchestrator.flows.catalogue import Catalogue, CatalogueError, find_flows
from services.orchestrator.live import LiveProfiles
from shieldmesh.module.inference import InferenceTarget
from shieldmesh.profile import ProfileError

FLOW = "async def {name}(turn):\n    yield turn.question\n"


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Path]:
    """A directory of Python modules that can be imported."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_the_flows_of_modules(modules: Path) -> None:
    """Flows are the public asynchronous generator functions that a module defines, or those that `__all__` names."""
    (modules / "own_flows.py").write_text(
        FLOW.format(name="mine") + FLOW.format(name="_hidden") + "async def none(turn):\n    pass\n"
    )
    (modules / "other_flows.py").write_text(
        f"from own_flows import mine as theirs\n__all__ = ['theirs']\n{FLOW.format(name='more')}"
    )
    assert set(find_flows(["own_flows"])) == {"mine"}
    assert set(find_flows(["own_flows", "other_flows"])) == {"mine", "theirs"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("import no_such_module_anywhere", "cannot be imported .ModuleNotFoundError"),
        ("def no_flow(turn):\n    yield ''", "has no flow"),
        (FLOW.format(name="twin"), "both have a flow twin"),
    ],
)
def test_a_module_that_is_wrong(modules: Path, content: str, words: str) -> None:
    """What is wrong with a module ends the start with the setting, the module and the reason."""
    (modules / "good_flows.py").write_text(FLOW.format(name="twin"))
    (modules / "wrong_flows.py").write_text(content)
    with pytest.raises(CatalogueError, match=f"SHIELDMESH_ORCHESTRATOR_FLOWS: .*{words}"):
        find_flows(["good_flows", "wrong_flows"])


def test_a_url_that_is_wrong() -> None:
    """A URL that names no module ends the start, too."""
    with pytest.raises(CatalogueError, match=r"SHIELDMESH_ORCHESTRATOR_MODULES: .*needs a port"):
        Catalogue(modules=["grpc://host/model"])


ALLOWED = "grpc://critic:50053/judge"


@pytest.mark.parametrize(
    ("flow", "problem"),
    [
        ("nobody", "default.yaml: flow: there is no flow nobody: .* which has mine"),
        ("os.system", "default.yaml:.* flow.name: "),
        (f"{{name: mine, modules: {{critic: '{ALLOWED}/else'}}}}", "default.yaml: flow.modules.critic: .* allowed"),
        ("{name: mine, modules: {critic: 'openai+https://h/v1/m?key_env=PATH'}}", "modules.critic: .* allowed"),
    ],
)
def test_a_profile_that_wants_what_is_not_allowed(modules: Path, flow: str, problem: str) -> None:
    """A profile can name no code and no URL that the operator does not allow, and is told with its file."""
    catalogue = _catalogue(modules)
    (modules / "default.yaml").write_text(f"model: echo\nflow: {flow}\n")
    with pytest.raises(ProfileError, match=problem) as caught:
        LiveProfiles(modules, catalogue)
    assert "key_env" not in str(caught.value)


def test_what_a_profile_may_name(modules: Path) -> None:
    """A flow by its name; modules by URLs that are allowed, and models of the inference service by name."""
    catalogue = _catalogue(modules)
    wanted = f"{{name: mine, modules: {{critic: '{ALLOWED}', own: 'org/model:8b'}}}}"
    (modules / "default.yaml").write_text(f"model: echo\nflow: {wanted}\n")
    (modules / "short.yaml").write_text("model: echo\nflow: mine\n")
    profiles = LiveProfiles(modules, catalogue).now.common
    policy = profiles["default"].policy.flow
    assert policy is not None
    assert profiles["short"].policy.flow == policy.model_copy(update={"modules": {}})
    assert catalogue.flow(policy).name == "mine"
    assert isinstance(catalogue.target(policy.modules["critic"]), InferenceTarget)
    assert catalogue.target(policy.modules["own"]) is None


def _catalogue(modules: Path) -> Catalogue:
    (modules / "own_flows.py").write_text(FLOW.format(name="mine"))
    return Catalogue(find_flows(["own_flows"]).values(), [ALLOWED])
