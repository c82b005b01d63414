"""Which models there are: `models.yaml`, read into frozen values, or one sentence about what is wrong with it."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shieldmesh.profile.source import ProfileError, Source
from shieldmesh.settings import Weights

from .keys import ENVIRONMENT
from .llamacpp.options import LlamaOptions
from .openai.options import OpenAIOptions
from .remote.options import RemoteOptions
from .replay import ReplayOptions


class ConfigurationError(Exception):
    """The models' configuration is wrong; the message names the file and the place."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$")
    max_running: int = Field(default=4, ge=1, le=4096)
    """Generations that run at the same time."""
    max_waiting: int = Field(default=64, ge=0, le=65_536)
    """Generations that may wait for a place; more are refused."""
    weights: Weights = Field(default_factory=dict[str, int])
    """The tenants' shares of the places while generations wait; those that are not named have 1."""


class LlamaModel(_Model):
    """A model that llama.cpp runs in this process."""

    backend: Literal["llamacpp"]
    options: LlamaOptions = LlamaOptions()


class ReplayModel(_Model):
    """A model that plays a script."""

    backend: Literal["replay"]
    options: ReplayOptions


class OpenAIModel(_Model):
    """A model of an OpenAI-compatible server."""

    backend: Literal["openai"]
    options: OpenAIOptions


class RemoteModel(_Model):
    """A model of another InferenceService."""

    backend: Literal["grpc"]
    options: RemoteOptions


Model = Annotated[LlamaModel | OpenAIModel | RemoteModel | ReplayModel, Field(discriminator="backend")]


class Configuration(BaseModel):
    """All models of one server, at least one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[Model, ...]

    @model_validator(mode="after")
    def _some_and_distinct(self) -> Self:
        if not self.models:
            raise ValueError("at least one model is needed")
        name, count = Counter(model.name for model in self.models).most_common(1)[0]
        if count > 1:
            raise ValueError(f"{count} models have the name {name}, names must differ")
        return self

    @property
    def callees(self) -> Mapping[str, str]:
        """The targets of other services that can be asked for diagnostics, each once, by the name of a model there."""
        remotes = [model for model in self.models if isinstance(model, RemoteModel) and not model.options.encrypted]
        names = {
            target: model.name if len(model.options.targets) == 1 else f"{model.name}-{number}"
            for model in reversed(remotes)
            for number, target in enumerate(model.options.targets, start=1)
        }
        return {name: target for target, name in names.items()}


def load(path: Path, environment: Mapping[str, str] = MappingProxyType({})) -> Configuration:
    """The configuration in the file, with the keys that it refers to.

    Args:
        path: The file.
        environment: The variables that `api_key: {env: NAME}` may name.

    Raises:
        ConfigurationError: the file cannot be read, is no YAML, or does not say what a configuration says; the message
            names all problems, each with file, line and field.
    """
    try:
        source = Source(str(path), path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"cannot read the models' configuration {path}: {error.strerror}") from None
    except ProfileError as error:
        raise ConfigurationError(str(error)) from None
    try:
        return Configuration.model_validate(source.values, context={ENVIRONMENT: environment})
    except ValidationError as error:
        problems = [source.problem(found["loc"], found["msg"]) for found in error.errors(include_input=False)]
        raise ConfigurationError("\n".join(map(str, problems))) from None
