"""`python -m services.inference`: serves the models of SHIELDMESH_INFERENCE_MODELS."""

import os
import sys
from functools import partial
from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shieldmesh import server, settings
from shieldmesh.settings import ServiceSettings

from .configuration import ConfigurationError, load
from .service import open_service


class InferenceSettings(ServiceSettings):
    """Settings of this service, from SHIELDMESH_INFERENCE_*."""

    model_config = SettingsConfigDict(env_prefix="SHIELDMESH_INFERENCE_")

    listen: str = "127.0.0.1:50053"
    models: Path = Path("models.yaml")
    """The models' configuration."""
    max_characters: int = Field(default=200_000, ge=1, le=10_000_000)
    """Characters that the messages of one request may have together."""


def main() -> None:
    """Runs the service until SIGTERM or SIGINT; a wrong setting, file or model ends it with one sentence."""
    given = settings.load(InferenceSettings)
    try:
        # The one use of the environment beside the settings: keys, of which the configuration holds the names.
        models = load(given.models, os.environ)
        opener = partial(open_service, configuration=models, max_characters=given.max_characters)
        server.run(name="inference", settings=given, open_service=opener, downstream=models.callees)
    except ConfigurationError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    settings.exit_on_system_error(main)
