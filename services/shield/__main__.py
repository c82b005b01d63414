"""`python -m services.shield`: serves the built-in shields."""

from functools import partial

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shieldmesh import server, settings
from shieldmesh.profile.policy import MAX_TIMEOUT
from shieldmesh.settings import ServiceSettings

from .detector_api import Listening
from .service import open_service


class ShieldSettings(ServiceSettings):
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


def main() -> None:
    """Runs the service until SIGTERM or SIGINT; a wrong setting ends it with one sentence."""
    given = settings.load(ShieldSettings)
    opener = partial(
        open_service,
        default_timeout=given.timeout,
        max_characters=given.max_characters,
        kept_shields=given.kept_shields,
        detector_api=_detector_api(given),
    )
    server.run(name="shield", settings=given, open_service=opener)


def _detector_api(given: ShieldSettings) -> Listening | None:
    if not given.detector_api_listen:
        return None
    settings.split_address(given.detector_api_listen, "SHIELDMESH_SHIELD_DETECTOR_API_LISTEN")
    return Listening(given.detector_api_listen, given.call_cap, given.drain_grace)


if __name__ == "__main__":
    settings.exit_on_system_error(main)
