"""`shieldmesh profiles diff`."""

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from shieldmesh.cli import terminal
from shieldmesh.cli.profiles.files import read

if TYPE_CHECKING:
    from shieldmesh.profile import Profile

_STYLES = {"+": "green", "-": "red", "@": "cyan"}


def diff(
    old: Annotated[Path, typer.Argument(help="A directory of profiles, or a profile's file.")],
    new: Annotated[Path, typer.Argument(help="What to compare it with: as well a directory or a file.")],
) -> None:
    """Show how profiles differ in what they mean: with all that they inherit and every default, whatever their layout.

    Ends with 0 when they mean the same, with 1 when they do not, as `diff` does.

    For example:

    - `shieldmesh profiles diff profiles/support.yaml profiles/support-next.yaml`

    - `git worktree add /tmp/before HEAD~1 && shieldmesh profiles diff /tmp/before/profiles profiles`
    """
    if old.is_dir() != new.is_dir():
        raise typer.BadParameter("expected two directories or two files", param_hint="OLD NEW")
    before, after = read(old), read(new)
    if old.is_dir():
        names = sorted(before.keys() | after.keys())
        lines = [line for name in names for line in _lines(before.get(name), after.get(name))]
    else:
        # They are compared whatever they are called.
        lines = [
            line for one, other in zip(before.values(), after.values(), strict=True) for line in _lines(one, other)
        ]
    console = terminal.out()
    for line in lines:
        console.print(Text(terminal.harmless(line), style=_STYLES.get(line[:1], "")))
    if lines:
        raise typer.Exit(1)


def _lines(old: "Profile | None", new: "Profile | None") -> Iterator[str]:
    """How two profiles differ, as a unified diff; None is one that is not there."""
    return difflib.unified_diff(_said(old), _said(new), _title(old), _title(new), lineterm="")


def _said(profile: "Profile | None") -> list[str]:
    """All that a profile means, in YAML."""
    if profile is None:
        return []
    import yaml  # noqa: PLC0415  # see `read`

    content = {**profile.policy.model_dump(mode="json"), **({"shadow": profile.shadow} if profile.shadow else {})}
    return yaml.safe_dump(content, allow_unicode=True, sort_keys=False).splitlines()


def _title(profile: "Profile | None") -> str:
    return f"{profile.name} {profile.version}" if profile is not None else "/dev/null"
