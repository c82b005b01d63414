"""Which models there are: `models.yaml`, read into frozen values, or one sentence about what is wrong with it."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .llamacpp.options import LlamaOptions
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


class LlamaModel(_Model):
    """A model that llama.cpp runs in this process."""

    backend: Literal["llamacpp"]
    options: LlamaOptions = LlamaOptions()


class ReplayModel(_Model):
    """A model that plays a script."""

    backend: Literal["replay"]
    options: ReplayOptions


Model = Annotated[LlamaModel | ReplayModel, Field(discriminator="backend")]


class Configuration(BaseModel):
    """All models of one server, at least one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[Model, ...] = Field(min_length=1)


def load(path: Path) -> Configuration:
    """The configuration in the file.

    Raises:
        ConfigurationError: the file cannot be read, is no YAML, or does not say what a configuration says.
    """
    try:
        # Any: YAML can hold anything, and pydantic judges it.
        configuration = Configuration.model_validate(yaml.safe_load(path.read_text("utf-8")))
    except OSError as error:
        raise ConfigurationError(f"cannot read the models' configuration {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f":{mark.line + 1}:{mark.column + 1}" if mark is not None else ""
        raise ConfigurationError(f"{path}{place}: this is not valid YAML") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ConfigurationError(f"{path}: {_place(first['loc'])}: {first['msg']}") from None
    name, count = Counter(model.name for model in configuration.models).most_common(1)[0]
    if count > 1:
        raise ConfigurationError(f"{path}: models: {count} models have the name {name}, names must differ")
    return configuration


def _place(location: tuple[int | str, ...]) -> str:
    """The path of a field, like models[2].options.pace, without the union's tag that pydantic puts into it."""
    path = ""
    for number, part in enumerate(location):
        if isinstance(part, int):
            path += f"[{part}]"
        elif not (number and isinstance(location[number - 1], int) and part in {"llamacpp", "replay"}):
            path += f".{part}" if path else part
    return path or "the file"
