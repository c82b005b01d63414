"""`python -m services.shield`: serves the built-in shields."""

from functools import partial
from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shieldmesh import server, settings
from shieldmesh.profile.entry import MAX_TIMEOUT
from shieldmesh.settings import LimitedSettings, Secret

from .detector_api import Listening
from .remote.remotes import Remotes
from .service import SERVICE, open_service
from .window.building import Means
from .window.models.files import ModelFiles


class ShieldSettings(LimitedSettings):
    """Settings of this service, from SHIELDMESH_SHIELD_*."""

    model_config = SettingsConfigDict(env_prefix="SHIELDMESH_SHIELD_")

    listen: str = "127.0.0.1:50052"
    timeout: float = Field(default=5.0, gt=0, le=MAX_TIMEOUT)
    """Seconds for one inspection by a shield whose policy does not say."""
    max_characters: int = Field(default=2_000_000, ge=1, le=100_000_000)
    """Characters that one call may bring in all its texts."""
    kept_shields: int = Field(default=256, ge=8, le=100_000)
    """Compiled shields that are kept for the next call that asks for the same."""
    detector_api_listen: str = ""
    """Where to serve the detector API over HTTP: `host:port`. Empty: nowhere."""
    remotes: tuple[str, ...] = ()
    """URLs of remote shields that policies may name, with all that lies below them; empty: none."""
    remote_authorizations: dict[str, Secret] = Field(default_factory=dict[str, Secret])
    """Where the value of the `authorization` header lies for remotes at and below a URL: {"env": …} or {"file": …}."""
    remote_failures: int = Field(default=5, ge=1, le=1_000)
    """Failures in a row after which a remote is left alone for a while."""
    remote_pause: float = Field(default=10.0, gt=0, le=3_600)
    """Seconds of that while."""
    models: Path | None = None
    """The directory below which the models of shields lie; none: policies can name no models."""
    inference: str = "127.0.0.1:50053"
    """Where the inference service is whose models can be judges."""


def main() -> None:
    """Runs the service until SIGTERM or SIGINT; a wrong setting ends it with one sentence."""
    given = settings.load(ShieldSettings)
    opener = partial(
        open_service,
        default_timeout=given.timeout,
        max_characters=given.max_characters,
        kept_shields=given.kept_shields,
        detector_api=_detector_api(given),
        remotes=remotes(given),
        means=_means(given),
    )
    # Each with places of its own: a turn keeps its stream open while its input waits to be inspected.
    limits = {f"{SERVICE}/{name}": given.places(f"shield {name}") for name in ("Inspect", "InspectStream")}
    server.run(name="shield", settings=given, open_service=opener, limits=limits)


def _detector_api(given: ShieldSettings) -> Listening | None:
    if not given.detector_api_listen:
        return None
    settings.split_address(given.detector_api_listen, "SHIELDMESH_SHIELD_DETECTOR_API_LISTEN")
    return Listening(given.detector_api_listen, given.call_cap, given.drain_grace)


def remotes(given: ShieldSettings) -> Remotes:
    """The remotes that were set.

    Raises:
        SystemExit: they cannot be used; the message says why.
    """
    name = "SHIELDMESH_SHIELD_REMOTE_AUTHORIZATIONS"
    try:
        return Remotes(
            given.remotes,
            authorizations={url: secret.read(name) for url, secret in given.remote_authorizations.items()},
            failures=given.remote_failures,
            pause=given.remote_pause,
        )
    except ValueError as error:
        raise SystemExit(f"SHIELDMESH_SHIELD_REMOTES or {name}: {error}") from None


def _means(given: ShieldSettings) -> Means:
    if given.models is not None and not given.models.is_dir():
        raise SystemExit(f"SHIELDMESH_SHIELD_MODELS: {given.models} is not a directory")
    return Means(ModelFiles(given.models), given.inference)


if __name__ == "__main__":
    settings.exit_on_system_error(main)
