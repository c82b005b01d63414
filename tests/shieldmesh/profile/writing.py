"""Profiles in text, and what is said about them."""

from pathlib import Path

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


def write(directory: Path, **files: str) -> Path:
    """Writes `NAME.yaml` files; two underscores in a name stand for a slash. The directory."""
    for name, content in files.items():
        path = directory / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return directory


def complaints(directory: Path) -> list[str]:
    """All that is wrong with the profiles of a directory, a line each, files without the directory."""
    with pytest.raises(ProfileError) as caught:
        profile.load(directory)
    return [str(problem).replace(f"{directory}/", "") for problem in caught.value.problems]
