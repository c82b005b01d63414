"""`python -m services.shield`: serves the built-in shields."""

from functools import partial

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shieldmesh import server, settings
from shieldmesh.profile.policy import MAX_TIMEOUT
from shieldmesh.settings import ServiceSettings

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


def main() -> None:
    """Runs the service until SIGTERM or SIGINT; a wrong setting ends it with one sentence."""
    given = settings.load(ShieldSettings)
    opener = partial(
        open_service,
        default_timeout=given.timeout,
        max_characters=given.max_characters,
        kept_shields=given.kept_shields,
    )
    server.run(name="shield", settings=given, open_service=opener)


if __name__ == "__main__":
    settings.exit_on_system_error(main)
