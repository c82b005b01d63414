"""Profiles in text, and what is said about them."""

import pytest

from shieldmesh import profile
from shieldmesh.profile import ProfileError


def problems(content: str | bytes) -> list[str]:
    """All problems of a file `p.yaml` with this content, a line each."""
    with pytest.raises(ProfileError) as caught:
        profile.parse("p", "p.yaml", content.encode() if isinstance(content, str) else content)
    return [str(problem) for problem in caught.value.problems]


def parse(content: str) -> profile.Policy:
    """The policy of a file with this content."""
    return profile.parse("p", "p.yaml", content.encode()).policy
