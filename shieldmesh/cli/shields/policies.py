"""Policies for the subcommands: found by name or file, and as what the shield service is asked."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from shieldmesh.cli import terminal
from shieldmesh.cli.policies import require_packages
from shieldmesh.v1 import policy_pb2, shield_pb2

if TYPE_CHECKING:
    from shieldmesh.profile import Profile
    from shieldmesh.profile.policy import AnyShield

Way = Literal["input", "output"]

DIRECTIONS: Final["dict[Way, policy_pb2.Direction.ValueType]"] = {
    "input": policy_pb2.DIRECTION_INPUT,
    "output": policy_pb2.DIRECTION_OUTPUT,
}

Profiles = Annotated[Path, typer.Option(help="The directory of the profiles.")]


@dataclass(frozen=True)
class Guards:
    """What guards one way in a policy.

    Attributes:
        label: The policy, for people.
        version: Its version.
        opening: What a stream of texts is opened with.
        observes: Whether text leaves at once, whatever the shields say later.
    """

    label: str
    version: str
    opening: shield_pb2.InspectOpen
    observes: bool
    shields: "tuple[AnyShield, ...]"

    def action_for(self, shield: str, kind: str, score: float) -> str:
        """What the policy does about a finding: "allow", "flag", "redact" or "block"."""
        from shieldmesh.profile.entry import Scale  # noqa: PLC0415  # see `find`

        entry = next(entry for entry in self.shields if entry.name == shield)
        reaction = entry.reactions.get(kind, entry.reactions[""])
        if not isinstance(reaction, Scale):
            return reaction
        due = [action for action, least in reaction.steps().items() if score >= least]
        return due[-1] if due else "allow"


def find(policy: str, directory: Path, way: Way) -> Guards:
    """What guards one way in a policy: the profile of that name in a directory, or a profile's file.

    Raises:
        typer.Exit: there is none, or it is wrong; the terminal says what to do.
    """
    require_packages()
    # It needs the services' packages, which an install of the client alone lacks.
    from shieldmesh.profile import ProfileError, load_file  # noqa: PLC0415

    path = Path(policy) if policy.endswith(".yaml") else directory / f"{policy}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(each.stem for each in directory.glob("*.yaml")))
        hint = f"the profiles there: {known}" if known else "name their directory with --profiles"
        terminal.fail(f"there is no profile {policy}: {path} is no file", hint=hint)
    try:
        profile = load_file(path)
    except ProfileError as error:
        terminal.fail(str(error))
    return _guards(policy, profile, way)


def _guards(label: str, profile: "Profile", way: Way) -> Guards:
    from shieldmesh.profile import latency_budget, shield_spec  # noqa: PLC0415  # see `find`

    policy = profile.policy
    side = policy.input if way == "input" else policy.output
    opening = shield_pb2.InspectOpen(
        shields=[shield_spec(entry) for entry in side.shields],
        direction=DIRECTIONS[way],
        latency_budget=latency_budget(policy.output.latency_budget) if way == "output" else None,
    )
    return Guards(label, profile.version, opening, way == "output" and policy.output.mode == "observe", side.shields)
