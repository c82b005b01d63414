"""A profile can name a candidate that runs beside it."""

from pathlib import Path

import pytest

from shieldmesh import profile
from tests.shieldmesh.profile.writing import complaints, problems, write


def test_a_shadow_is_a_profile_beside_it(tmp_path: Path) -> None:
    """A candidate may extend what it runs beside: whom one runs beside is not inherited."""
    write(tmp_path, live="model: a\nshadow: next\n", next="extends: live\nprompt: hi\n")
    shelf = profile.load(tmp_path).common
    assert (shelf["live"].shadow, shelf["next"].shadow) == ("next", "")


def test_a_shadow_changes_no_version(tmp_path: Path) -> None:
    """The policy that acts is the same."""
    write(tmp_path, a="model: a\n", b="model: a\nshadow: a\n")
    shelf = profile.load(tmp_path).common
    assert shelf["a"].version == shelf["b"].version


@pytest.mark.parametrize("shadow", ["nobody", "live", "base", "common"])
def test_a_shadow_that_is_not_there_is_told(tmp_path: Path, shadow: str) -> None:
    """Neither itself, nor an abstract profile, nor one that others may use can run beside a profile."""
    write(
        tmp_path,
        common="model: a\n",
        tenants__acme__live=f"model: a\nshadow: {shadow}\n",
        tenants__acme__base="abstract: true\n",
        tenants__acme__next="model: a\n",
    )
    (complaint,) = complaints(tmp_path)
    assert complaint == (
        f"tenants/acme/live.yaml:2: shadow: {shadow} is no other profile beside this one: expected one of next"
    )


def test_a_shadow_that_is_wrong_is_told_once(tmp_path: Path) -> None:
    """It is there, and what is wrong is in its own file."""
    write(tmp_path, live="model: a\nshadow: next\n", next="modell: a\n")
    assert all(complaint.startswith("next.yaml:") for complaint in complaints(tmp_path))


def test_a_shadow_is_a_name() -> None:
    """Shields cannot stand there."""
    (problem,) = problems("model: a\nshadow: {output: {shields: []}}\n")
    assert problem.startswith("p.yaml:2: shadow: ")
