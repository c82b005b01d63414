"""What `shieldmesh up` can be told: by shieldmesh.yaml, then SHIELDMESH_* variables, then flags."""

from collections.abc import Iterable
from typing import Any, Final, Literal

import yaml
from pydantic import DirectoryPath, FilePath, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, YamlConfigSettingsSource

from shieldmesh.client.url import DEFAULT_URL

FILE: Final = "shieldmesh.yaml"
PREFIX: Final = "SHIELDMESH_"
SERVICE_PREFIXES: Final = tuple(f"{PREFIX}{name}_" for name in ("GATEWAY", "ORCHESTRATOR", "SHIELD", "INFERENCE"))
"""Variables that the services read and check themselves."""
OF_OTHERS: Final = frozenset({f"{PREFIX}URL"})
"""Variables that other subcommands read."""


class SettingsError(Exception):
    """A setting is wrong or unknown; the message names it."""


class UpSettings(BaseSettings):
    """The settings of a mesh on one machine."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, yaml_file=FILE, extra="forbid", frozen=True)

    listen: str = DEFAULT_URL
    """Where the gateway serves: `host:port` (port 0: a free one) or `unix:/path`."""
    profiles: DirectoryPath | None = None
    """The directory of the profiles; None: the checkout's own."""
    models: FilePath | None = None
    """The list of models; None: the inference service's own."""
    flows: tuple[str, ...] = ()
    """Python modules with flows that profiles may name."""
    log_format: Literal["text", "json"] = "text"
    runtime_dir: DirectoryPath | None = None
    """Where the directory of the sockets is made; None: the system's place for temporary files."""

    @classmethod
    def settings_customise_sources(  # noqa: D102
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # not among ours
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # not among ours
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls)


def load(flags: dict[str, object], variables: Iterable[str]) -> UpSettings:
    """The settings from the working directory's file, the environment and the given flags (None: not given).

    Args:
        flags: By setting.
        variables: The names in the environment.

    Raises:
        SettingsError: a value is wrong or a name unknown.
    """
    known = {f"{PREFIX}{name}".upper() for name in UpSettings.model_fields} | OF_OTHERS
    ours = (name for name in variables if name.startswith(PREFIX) and not name.startswith(SERVICE_PREFIXES))
    unknown = sorted(set(ours) - known)
    if unknown:
        raise SettingsError(f"the variable {unknown[0]} is unknown: expected one of {', '.join(sorted(known))}")
    try:
        # Any: each value is checked by the model.
        given: dict[str, Any] = {name: value for name, value in flags.items() if value is not None}
        return UpSettings(**given)
    except ValidationError as error:
        problems = [_problem(str(e["loc"][0]), e["type"], e["msg"]) for e in error.errors()]
        raise SettingsError("; ".join(problems)) from None
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, ValueError) as error:
        place = str(getattr(error, "problem_mark", "") or "").strip().removeprefix("in ")
        raise SettingsError(f"{place or FILE} is wrong: expected a list of settings, `name: value` each") from None


def _problem(name: str, kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return f"the setting {name} in {FILE} is unknown: expected one of {', '.join(sorted(UpSettings.model_fields))}"
    return f"the setting {name} (in {FILE}, {PREFIX}{name.upper()} or --{name.replace('_', '-')}) is wrong: {message}"
