"""Profiles for the subcommands, from a file or a directory."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from shieldmesh.cli import terminal
from shieldmesh.cli.policies import require_packages

if TYPE_CHECKING:
    from shieldmesh.profile import Profile


def read(place: Path) -> "Mapping[str, Profile]":
    """The profile of a file, or all of a directory: by name, those of a tenant as `tenants/TENANT/NAME`.

    Raises:
        typer.Exit: there is none, or some are wrong; the terminal tells all problems.
    """
    require_packages()
    # It needs the services' packages, which an install of the client alone lacks.
    from shieldmesh.profile import ProfileError, load, load_file  # noqa: PLC0415

    if not place.exists():
        terminal.fail(f"there is no {place}", hint="name the directory of the profiles, or a profile's file")
    try:
        if place.is_dir():
            return {_name(tenant, profile): profile for tenant, profile in load(place)}
        profile = load_file(place)
    except ProfileError as error:
        terminal.fail(str(error))
    return {profile.name: profile}


def notices(profiles: "Mapping[str, Profile]") -> Iterator[str]:
    """What is not wrong with these profiles, but may surprise; each once."""
    return iter(dict.fromkeys(str(notice) for profile in profiles.values() for notice in profile.notices))


def _name(tenant: str, profile: "Profile") -> str:
    return f"tenants/{tenant}/{profile.name}" if tenant else profile.name
